"""`score` and `udf`: what they make on the driver, and what runs in a Python worker."""
