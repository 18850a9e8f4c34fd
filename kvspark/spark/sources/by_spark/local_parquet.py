"""Parquet files of a POSIX file system, which Spark reads itself, or the workers that score them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from pyspark.errors import AnalysisException, ArithmeticException
from pyspark.sql import DataFrame, DataFrameReader, SparkSession
from pyspark.sql.types import StructType

from kvspark.config.table.input_table import InputConfig
from kvspark.errors import KvsparkError, SchemaError
from kvspark.spark.sources.by_spark.spark_files import folders_as_text, literal, of_partitions
from kvspark.spark.sources.by_workers.parquet_table import ParquetTable
from kvspark.spark.sources.input.found_input import FoundInput
from kvspark.spark.sources.input.split_rows import SplitRows
from kvspark.spark.tables.footer_schema import schema_of
from kvspark.spark.tables.input_files import InputFiles
from kvspark.spark.tables.merged_schema import merged
from kvspark.spark.tables.paths import hadoop_cannot_open
from kvspark.table.input.pinned_file import PinnedFile

_ASSUMED = {
    "spark.sql.caseSensitive": "FALSE",
    "spark.sql.files.ignoreCorruptFiles": "FALSE",
    "spark.sql.files.ignoreMissingFiles": "FALSE",
    "spark.sql.parquet.datetimeRebaseModeInRead": "CORRECTED",
    "spark.sql.parquet.fieldId.read.enabled": "FALSE",
    "spark.sql.parquet.int96RebaseModeInRead": "CORRECTED",
    "spark.sql.parquet.int96TimestampConversion": "FALSE",
}
"""Settings of Spark's reader, and the values with which it reads what workers read."""


@final
class LocalParquet(FoundInput):
    """The table of `files`, of which `config` chooses partitions.

    Partition values stay text as they are written in the folder names ('007' is not 7), and page
    checksums are verified where the files have them.
    """

    has_places = True

    def __init__(self, files: InputFiles, config: InputConfig) -> None:
        self._files = files
        self._config = config

    @property
    def schema(self) -> StructType:
        return schema_of(self._files)

    @property
    def pinned(self) -> Sequence[PinnedFile]:
        return [file.pinned for file in self._files.selected]

    @property
    def empty_files(self) -> int:
        return self._files.empty

    @property
    def rows(self) -> int:
        return self._files.rows

    def refuse_known_nulls(self, columns: Sequence[str]) -> bool:
        return self._files.refuse_known_nulls(columns)

    def read(self, spark: SparkSession) -> DataFrame:
        if self._is_closed_to_spark:
            return ParquetTable.of(spark, self._files).df(spark)
        return of_partitions(self._all_partitions(spark), self._config.partitions)

    def placed(self, spark: SparkSession) -> DataFrame | None:
        if self._is_closed_to_spark:
            return ParquetTable.of(spark, self._files).placed(spark)
        return None

    def splits(self, spark: SparkSession) -> SplitRows | None:
        if any(str(spark.conf.get(name)).upper() != value for name, value in _ASSUMED.items()):
            return None
        try:
            return ParquetTable.of(spark, self._files).splits(spark)
        except KvsparkError:  # what workers do not read, Spark does, or says what is wrong
            return None

    @property
    def _is_closed_to_spark(self) -> bool:
        return any(hadoop_cannot_open(file.name) for file in self._files.found)

    def _all_partitions(self, spark: SparkSession) -> DataFrame:
        files = self._files
        with folders_as_text(spark):
            reader = spark.read.option("parquet.page.verify-checksum.enabled", "true")
            # The checked files agree on their columns. Spark would take those of any file it likes,
            # also one of a partition that is not read.
            samples = {str(f.columns) + str(f.spark_schema): f.name for f in files.footers}
            paths = list(samples.values()) if files.merges else [files.footers[0].name]
            schema = merged([(path, _schema(reader, path)) for path in paths])
            return reader.schema(schema).parquet(*map(literal, files.roots))


def _schema(reader: DataFrameReader, path: str) -> StructType:
    try:
        return reader.parquet(literal(path)).schema
    except (AnalysisException, ArithmeticException) as exc:
        # The second is raised for decimals of too many digits.
        raise SchemaError(
            f"input file {path}: Spark cannot read its columns ({str(exc).splitlines()[0]}); nothing was "
            "written, write it without that column, or with another type"
        ) from None
