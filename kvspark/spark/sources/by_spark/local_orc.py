"""ORC files of a POSIX file system, which Spark reads itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StringType, StructField, StructType

from kvspark.config.table.input_table import InputConfig
from kvspark.errors import DataError, SchemaError
from kvspark.spark.columns.missing_column import missing_column
from kvspark.spark.sources.by_spark.spark_files import folders_as_text, literal, of_partitions
from kvspark.spark.sources.input.found_input import FoundInput
from kvspark.spark.tables.footer_schema import spark_type
from kvspark.spark.tables.listing import InputFile
from kvspark.spark.tables.plain_files import PlainFiles
from kvspark.table.input.pinned_file import PinnedFile


@final
class LocalOrc(FoundInput):
    """The table of `files`, of which `config` chooses partitions; all have the same columns."""

    has_places = False

    def __init__(self, files: PlainFiles, config: InputConfig, columns: Sequence[str]) -> None:
        self._files = files
        self._config = config
        read = files.selected or tuple(file for file in files.found if file.size_bytes)[:1]
        if not read:
            raise DataError(
                f"input {', '.join(config.paths)} holds no ORC file with content; nothing was written, check input.paths"
            )
        footers = [(file.name, *_footer(file)) for file in read]
        self._columns = footers[0][1]
        self._sample = footers[0][0]
        self._rows = sum(rows for _, _, rows in footers) if files.selected else 0
        for name, found, _ in footers[1:]:
            if not found.equals(self._columns):
                raise SchemaError(
                    f"input files do not agree on their columns: {self._sample} has {_told(self._columns)}, and {name} "
                    f"{_told(found)}; nothing was written, rewrite one of them"
                )
        there = [*self._columns.names, *files.partition_columns]
        for name in columns:
            if name not in there:
                raise SchemaError(f"input: {missing_column(name, there)}; nothing was written")

    @property
    def schema(self) -> StructType:
        inside = [StructField(field.name, spark_type(field.type)) for field in self._columns]
        known = set(self._columns.names)
        folders = [name for name in self._files.partition_columns if name not in known]
        return StructType([*inside, *(StructField(name, StringType()) for name in folders)])

    @property
    def pinned(self) -> Sequence[PinnedFile]:
        return [file.pinned for file in self._files.selected]

    @property
    def empty_files(self) -> int:
        return self._files.empty

    @property
    def rows(self) -> int:
        return self._rows

    def refuse_known_nulls(self, columns: Sequence[str]) -> bool:
        return not columns

    def read(self, spark: SparkSession) -> DataFrame:
        with folders_as_text(spark):
            schema = spark.read.orc(literal(self._sample)).schema
            roots = [literal(root) for root in self._files.roots]
            df = spark.read.schema(schema).orc(roots)
        return of_partitions(df, self._config.partitions)


def _footer(file: InputFile) -> tuple[pa.Schema, int]:
    from pyarrow import orc

    try:
        found = orc.ORCFile(file.name)
    except (pa.ArrowInvalid, OSError) as exc:
        raise DataError(
            f"input file {file.name} is no readable ORC file ({str(exc).splitlines()[0]}); nothing was written, write it "
            "again or move it away"
        ) from None
    return found.schema, found.nrows


def _told(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)
