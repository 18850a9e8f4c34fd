"""Rows on all cores, where the input comes in fewer pieces than there are cores."""

from __future__ import annotations

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
