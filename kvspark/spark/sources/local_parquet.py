"""Parquet files of a POSIX file system, which Spark reads itself."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import final

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, DataFrameReader, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from kvspark.config.table.input_table import InputConfig
from kvspark.errors import SchemaError
from kvspark.spark.columns.column_map import quoted
from kvspark.spark.sources.found_input import FoundInput
from kvspark.spark.tables.folder_names import partition_value
from kvspark.spark.tables.footer_schema import schema_of
from kvspark.spark.tables.input_files import InputFiles, refuse_known_nulls
from kvspark.spark.tables.merged_schema import merged
from kvspark.table.input.pinned_file import digest_of
from kvspark.table.input.pinning import check_unchanged

_INFERENCE = "spark.sql.sources.partitionColumnTypeInference.enabled"


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
        self._footers = files.footers if files.selected else ()

    @property
    def schema(self) -> StructType:
        return schema_of(self._files)

    @property
    def files(self) -> Sequence[str]:
        return [file.name for file in self._files.selected]

    @property
    def digest(self) -> str:
        return digest_of([file.pinned for file in self._files.selected])

    @property
    def empty_files(self) -> int:
        return sum(1 for file in self._files.found if not file.size_bytes)

    @property
    def rows(self) -> int:
        return sum(footer.rows for footer in self._footers)

    def refuse_known_nulls(self, columns: Sequence[str]) -> bool:
        refuse_known_nulls(self._footers, columns)
        return all(f.nulls.get(name, 0) is not None for f in self._footers for name in columns)

    def read(self, spark: SparkSession) -> DataFrame:
        df = self._all_partitions(spark)
        for column, text in self._config.partitions.items():
            value, name = partition_value(text), F.col(quoted(column))
            df = df.where(name.isNull() if value is None else name == F.lit(value))
        return df

    def check_unchanged(self) -> None:
        check_unchanged([file.pinned for file in self._files.selected])

    def _all_partitions(self, spark: SparkSession) -> DataFrame:
        files = self._files
        before = spark.conf.get(_INFERENCE, "true")
        spark.conf.set(_INFERENCE, "false")
        try:
            reader = spark.read.option("parquet.page.verify-checksum.enabled", "true")
            # The checked files agree on their columns. Spark would take those of any file it likes,
            # also one of a partition that is not read.
            samples = {str(f.columns) + str(f.spark_schema): f.name for f in files.footers}
            paths = list(samples.values()) if files.merges else [files.footers[0].name]
            schema = merged([(path, _schema(reader, path)) for path in paths])
            return reader.schema(schema).parquet(*(_literal(str(root)) for root in files.roots))
        finally:
            spark.conf.set(_INFERENCE, before or "true")


def _schema(reader: DataFrameReader, path: str) -> StructType:
    try:
        return reader.parquet(_literal(path)).schema
    except AnalysisException as exc:
        raise SchemaError(
            f"input file {path}: Spark cannot read its columns ({str(exc).splitlines()[0]}); nothing was "
            "written, write it without that column, or with another type"
        ) from None


def _literal(path: str) -> str:
    """`path` with nothing in it that Spark would expand."""
    return re.sub(r"([\[\]{}*?\\])", r"\\\1", path)
