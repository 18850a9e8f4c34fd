"""Rows in, results out: the predictor of a worker, and what `Model.predict` gives of bad rows."""
