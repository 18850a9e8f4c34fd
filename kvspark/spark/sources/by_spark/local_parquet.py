"""Parquet files of a POSIX file system, which Spark reads itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, DataFrameReader, SparkSession
from pyspark.sql.types import StructType

from kvspark.config.table.input_table import InputConfig
from kvspark.errors import SchemaError
from kvspark.spark.sources.by_spark.spark_files import folders_as_text, literal, of_partitions
from kvspark.spark.sources.input.found_input import FoundInput
from kvspark.spark.tables.footer_schema import schema_of
from kvspark.spark.tables.input_files import InputFiles
from kvspark.spark.tables.merged_schema import merged
from kvspark.table.input.pinned_file import PinnedFile


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
        return of_partitions(self._all_partitions(spark), self._config.partitions)

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
    except AnalysisException as exc:
        raise SchemaError(
            f"input file {path}: Spark cannot read its columns ({str(exc).splitlines()[0]}); nothing was "
            "written, write it without that column, or with another type"
        ) from None
