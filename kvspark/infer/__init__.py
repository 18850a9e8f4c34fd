"""Rows to results: the rule, micro-batches, windows, preflight; no Spark, no Redis."""
