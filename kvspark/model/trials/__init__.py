"""What is tried when a model is made: does padding, or company, reach a row's result?"""
