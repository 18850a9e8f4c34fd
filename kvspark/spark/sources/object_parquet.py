"""Parquet files in an object store, which the workers read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import final

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, StringType, StructField, StructType

from kvspark.errors import DataError, SchemaError, SecretError
from kvspark.spark.columns.column_map import quoted
from kvspark.spark.sources.found_input import FoundInput
from kvspark.spark.sources.parquet_schema import parquet_schema
from kvspark.spark.sources.worker_table import WorkerTable
from kvspark.spark.tables.footer_schema import schema_of
from kvspark.spark.tables.footers import Footer
from kvspark.spark.tables.input_files import InputFiles, refuse_known_nulls
from kvspark.spark.tables.merged_schema import merged
from kvspark.spark.tables.object_listing import ObjectsFound
from kvspark.table.input.pinned_file import PinnedFile, PinnedObject, digest_of
from kvspark.table.input.table_file import TableFile
from kvspark.table.objects.object_store import ObjectStore

_THREADS = 16  # of requests without bytes: the wait is for the network


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
    def files(self) -> Sequence[str]:
        return [file.name for file in self._files.selected]

    @property
    def version(self) -> str | None:
        return ", ".join(f"run {run}" for run in self._found.runs) or None

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
        table, cast = self._table(spark)
        return _cast(table.df(spark), cast)

    def placed(self, spark: SparkSession) -> DataFrame:
        table, cast = self._table(spark)
        return _cast(table.placed(spark), cast)

    def check_unchanged(self) -> None:
        pinned = [file.pinned for file in self._files.selected]
        with ThreadPoolExecutor(_THREADS) as pool:
            for _ in pool.map(_check_unchanged, pinned):
                pass

    def _table(self, spark: SparkSession) -> tuple[WorkerTable, Mapping[str, DataType]]:
        """The table, and the types that columns of folder names have in files; in the table they are texts."""
        _refuse_old_calendar(self._files.footers)
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


def _refuse_old_calendar(footers: Sequence[Footer]) -> None:
    for footer in footers:
        kinds = " ".join(footer.columns.values())
        if footer.has_old_calendar and re.search(r"INT96|Date|Timestamp", kinds):
            raise DataError(
                f"input file {footer.name}: a Spark before 3.1 wrote its dates or times, or one that was told to write them by "
                "the old calendar, which only Spark reads; nothing was written, write the file again"
            )


def _check_unchanged(file: PinnedFile) -> None:
    assert isinstance(file, PinnedObject)
    try:
        now = ObjectStore(file.bucket).stat(file.key)
    except PermissionError as exc:
        raise SecretError(f"input: {exc}; nothing was published") from None
    except OSError as exc:
        raise DataError(f"input: {exc}; nothing was published") from None
    if now is None or (now.size_bytes, now.tag) != (file.size_bytes, file.tag):
        raise DataError(
            f"input file {file.name} changed while the run read it; nothing was published, start the run again when the "
            "input is complete"
        )
