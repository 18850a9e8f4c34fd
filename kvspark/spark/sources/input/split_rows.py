"""The rows of an input split by split, for workers that read what they score: no row of it goes through the JVM."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import final

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import LongType, StringType, StructField, StructType

from kvspark.spark.sources.input.located import PLACES
from kvspark.table.input.split_reader import SplitReader


@final
@dataclass(frozen=True, slots=True)
class ReadTask:
    """What a worker does that is given numbers of splits: it reads them."""

    reader: SplitReader

    def run(self, numbers: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The rows of these splits."""
        for batch in numbers:
            for split in batch.column(0).to_pylist():
                yield from self.reader.batches(split)


@final
@dataclass(frozen=True, slots=True)
class SplitRows:
    """The rows of a table, as workers read them."""

    reader: SplitReader
    schema: StructType
    """Its columns, as Spark has them."""

    def numbers(self, spark: SparkSession) -> DataFrame:
        """The numbers of the splits, for `ReadTask`: number n is in partition n, whenever it is asked."""
        count = len(self.reader.splits)
        return spark.range(0, count, 1, max(1, count))

    def df(self, spark: SparkSession) -> DataFrame:
        """The rows in Spark: those of split n are in partition n."""
        return self.numbers(spark).mapInArrow(ReadTask(self.reader).run, self.schema)

    def placed(self, spark: SparkSession) -> DataFrame:
        """`df` with `PLACES` behind its columns."""
        file, row = PLACES
        more = [StructField(file, StringType(), False), StructField(row, LongType(), False)]  # noqa: FBT003 - never null
        read = ReadTask(replace(self.reader, places=(file, row)))
        return self.numbers(spark).mapInArrow(read.run, StructType([*self.schema.fields, *more]))
