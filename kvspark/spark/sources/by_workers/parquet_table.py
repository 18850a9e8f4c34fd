"""Parquet files as the table that Spark would read of them on a disk, for workers to read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, StringType, StructField, StructType

from kvspark.errors import DataError, SchemaError
from kvspark.spark.columns.column_map import quoted
from kvspark.spark.sources.by_workers.old_calendar import refuse_old_calendar
from kvspark.spark.sources.by_workers.parquet_schema import parquet_schema
from kvspark.spark.sources.by_workers.worker_table import WorkerTable
from kvspark.spark.sources.input.split_rows import SplitRows
from kvspark.spark.tables.input_files import InputFiles
from kvspark.spark.tables.merged_schema import merged
from kvspark.table.input.table_file import TableFile


@final
@dataclass(frozen=True, slots=True)
class ParquetTable:
    """The rows of Parquet files; its columns, types and values are those that Spark would read."""

    table: WorkerTable
    cast: Mapping[str, DataType]
    """The types that columns of folder names have in files; in `table` they are texts."""

    @classmethod
    def of(cls, spark: SparkSession, files: InputFiles) -> ParquetTable:
        """The table of the selected ones of `files`.

        Raises:
            DataError: a file is not there any more, or has days in the old calendar, which only Spark reads.
            SchemaError: Spark cannot read a column, or files do not agree on one.
        """
        refuse_old_calendar(files.footers)
        inside = {field.name.lower(): field for field in _merged(spark, files).fields}
        folders = files.partition_columns
        # As Spark has it: the type of the files, the value of the folder, behind all others.
        names = {name: inside[name.lower()].name for name in folders if name.lower() in inside}
        kinds = {name: inside[name.lower()].dataType for name in names.values()}
        texts = [StructField(names.get(name, name), StringType()) for name in folders]
        others = [field for field in inside.values() if field.name not in kinds]
        read = [
            TableFile(file.pinned, {names.get(name, name): value for name, value in file.partition})
            for file in files.selected
        ]
        groups = [footer.groups for footer in files.footers] if files.selected else []
        return cls(WorkerTable(tuple(read), tuple(groups), StructType([*others, *texts])), kinds)

    def df(self, spark: SparkSession) -> DataFrame:
        """The table in Spark.

        Raises:
            SchemaError: the workers have no such type.
        """
        return _cast(self.table.splits(spark).df(spark), self.cast)

    def placed(self, spark: SparkSession) -> DataFrame:
        """`df` with `PLACES` behind its columns.

        Raises:
            SchemaError: as `df`.
        """
        return _cast(self.table.splits(spark).placed(spark), self.cast)

    def splits(self, spark: SparkSession) -> SplitRows | None:
        """The table split by split; None if Spark has to make types of texts.

        Raises:
            SchemaError: as `df`.
        """
        return None if self.cast else self.table.splits(spark)


def _cast(df: DataFrame, kinds: Mapping[str, DataType]) -> DataFrame:
    return df.withColumns({name: F.col(quoted(name)).cast(kind) for name, kind in kinds.items()})


def _merged(spark: SparkSession, files: InputFiles) -> StructType:
    """The columns of all files, but for those of folder names."""
    pinned = {file.name: file.pinned for file in files.found}
    samples = {str(f.columns) + str(f.spark_schema): f.name for f in files.footers}
    names = list(samples.values()) if files.merges else [files.footers[0].name]
    try:
        schema = merged([(name, parquet_schema(spark, pinned[name])) for name in names])
    except OSError as exc:
        raise DataError(f"input: {exc}; nothing was written") from None
    _refuse_same_names(schema, names[0])
    return schema


def _refuse_same_names(schema: StructType, file: str) -> None:
    names = [name.lower() for name in schema.names]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise SchemaError(
            f"input file {file}: it has column {twice!r} twice, in whatever case; nothing was written, rename one of them"
        )
