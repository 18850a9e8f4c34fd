"""Spark: reading, scoring and publishing tables; the only package that imports pyspark."""
