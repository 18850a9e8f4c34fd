"""Runs a stage on rows in micro-batches of a fixed shape, and finds bad rows."""
