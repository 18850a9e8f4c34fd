"""Parquet files in an object store, which the workers read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, StringType, StructField, StructType

from kvspark.errors import DataError, SchemaError
from kvspark.spark.columns.column_map import quoted
from kvspark.spark.sources.by_workers.old_calendar import refuse_old_calendar
from kvspark.spark.sources.by_workers.parquet_schema import parquet_schema
from kvspark.spark.sources.by_workers.worker_table import WorkerTable
from kvspark.spark.sources.input.found_input import FoundInput
from kvspark.spark.tables.footer_schema import schema_of
from kvspark.spark.tables.input_files import InputFiles
from kvspark.spark.tables.merged_schema import merged
from kvspark.spark.tables.object_listing import ObjectsFound
from kvspark.table.input.pinned_file import PinnedFile
from kvspark.table.input.table_file import TableFile


@final
class ObjectParquet(FoundInput):
    """The table of `files`, which are `found` in object stores.

    Its columns, types and values are those that Spark would read of the same files on a disk.
    """

    has_places = True

    def __init__(self, found: ObjectsFound, files: InputFiles) -> None:
        self._found = found
        self._files = files
        self._footers = files.footers if files.selected else ()

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
        table, cast = self._table(spark)
        return _cast(table.df(spark), cast)

    def placed(self, spark: SparkSession) -> DataFrame:
        table, cast = self._table(spark)
        return _cast(table.placed(spark), cast)

    def _table(self, spark: SparkSession) -> tuple[WorkerTable, Mapping[str, DataType]]:
        """The table, and the types that columns of folder names have in files; in the table they are texts."""
        refuse_old_calendar(self._files.footers)
        inside = {field.name.lower(): field for field in _merged(spark, self._files).fields}
        folders = self._files.partition_columns
        # As Spark has it: the type of the files, the value of the folder, behind all others.
        names = {name: inside[name.lower()].name for name in folders if name.lower() in inside}
        kinds = {name: inside[name.lower()].dataType for name in names.values()}
        texts = [StructField(names.get(name, name), StringType()) for name in folders]
        others = [field for field in inside.values() if field.name not in kinds]
        schema = StructType([*others, *texts])
        files = [
            TableFile(file.pinned, {names.get(name, name): value for name, value in file.partition})
            for file in self._files.selected
        ]
        groups = [footer.groups for footer in self._footers]
        return WorkerTable(tuple(files), tuple(groups), schema), kinds


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
