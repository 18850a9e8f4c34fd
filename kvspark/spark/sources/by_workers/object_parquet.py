"""Parquet files in an object store, which the workers read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from kvspark.spark.sources.by_workers.parquet_table import ParquetTable
from kvspark.spark.sources.input.found_input import FoundInput
from kvspark.spark.sources.input.split_rows import SplitRows
from kvspark.spark.tables.footer_schema import schema_of
from kvspark.spark.tables.input_files import InputFiles
from kvspark.spark.tables.object_listing import ObjectsFound
from kvspark.table.input.pinned_file import PinnedFile


@final
class ObjectParquet(FoundInput):
    """The table of `files`, which are `found` in object stores.

    Its columns, types and values are those that Spark would read of the same files on a disk.
    """

    has_places = True

    def __init__(self, found: ObjectsFound, files: InputFiles) -> None:
        self._found = found
        self._files = files
        self._made: ParquetTable | None = None

    @property
    def schema(self) -> StructType:
        return schema_of(self._files)

    @property
    def pinned(self) -> Sequence[PinnedFile]:
        return [file.pinned for file in self._files.selected]

    @property
    def version(self) -> str | None:
        return ", ".join(f"run {run}" for run in self._found.runs) or None

    @property
    def empty_files(self) -> int:
        return self._files.empty

    @property
    def rows(self) -> int:
        return self._files.rows

    def refuse_known_nulls(self, columns: Sequence[str]) -> bool:
        return self._files.refuse_known_nulls(columns)

    def read(self, spark: SparkSession) -> DataFrame:
        return self._table(spark).df(spark)

    def placed(self, spark: SparkSession) -> DataFrame:
        return self._table(spark).placed(spark)

    def splits(self, spark: SparkSession) -> SplitRows | None:
        return self._table(spark).splits(spark)

    def _table(self, spark: SparkSession) -> ParquetTable:
        if self._made is None:  # it fetches footers
            self._made = ParquetTable.of(spark, self._files)
        return self._made
