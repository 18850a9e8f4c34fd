"""What is done to a whole namespace: statistics, large contents, purge and warm."""
