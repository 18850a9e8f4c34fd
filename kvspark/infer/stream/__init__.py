"""Batches that follow each other: misses of several are computed together."""
