"""Files of this machine that Spark reads itself, whatever their format: their names, and the values of their folders."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from kvspark.spark.columns.column_map import quoted
from kvspark.spark.tables.folder_names import partition_value

_INFERENCE = "spark.sql.sources.partitionColumnTypeInference.enabled"


@contextmanager
def folders_as_text(spark: SparkSession) -> Iterator[None]:
    """While it lasts, values of folder names are texts, as they are written: '007' is not 7."""
    before = spark.conf.get(_INFERENCE, "true")
    spark.conf.set(_INFERENCE, "false")
    try:
        yield
    finally:
        spark.conf.set(_INFERENCE, before or "true")


def of_partitions(df: DataFrame, partitions: Mapping[str, str | None]) -> DataFrame:
    """The rows of `df` that are in all of `partitions`."""
    for column, text in partitions.items():
        value, name = partition_value(text), F.col(quoted(column))
        df = df.where(name.isNull() if value is None else name == F.lit(value))
    return df


def literal(path: str | Path) -> str:
    """`path` with nothing in it that Spark would expand."""
    return re.sub(r"([\[\]{}*?\\])", r"\\\1", str(path))
