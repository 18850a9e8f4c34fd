"""The rows of a scored table by `id`, each computed once."""

from __future__ import annotations

from pyspark.sql import DataFrame, Row


def by_id(df: DataFrame) -> list[Row]:
    """All rows, sorted here: `orderBy` draws a sample first, for which Spark computes the whole table."""
    return sorted(df.collect(), key=lambda row: row["id"])
