"""In which task a row is scored, and in which order: on all cores, as the output asks for it."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from kvspark.spark.columns.column_map import ColumnMap, quoted


def spread(df: DataFrame, rows: int, columns: ColumnMap) -> DataFrame:
    """`df` on all cores; the same rows meet in the same partition whenever it is done again.

    By a hash of what the model takes: rows that are equal for the model meet in one task, and a
    task that Spark repeats gets the same rows again, which round robin does not promise.
    """
    cores = df.sparkSession.sparkContext.defaultParallelism
    if rows == 0 or df.rdd.getNumPartitions() >= cores:
        return df
    keys = [F.col(quoted(column)) for column in dict.fromkeys(columns.inputs.values())]
    return df.repartition(cores, *keys)


def in_order(df: DataFrame, names: Sequence[str]) -> DataFrame:
    """`df` with the rows of each partition by the columns `names`, ascending, nulls first; Spark spills what it cannot hold.

    Scoring and writing keep the order.
    """
    return df.sortWithinPartitions(*(F.col(quoted(name)) for name in names)) if names else df
