"""Whether rows of a schema can be the output of a conf, before any is computed."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    ByteType,
    DateType,
    DecimalType,
    IntegerType,
    LongType,
    MapType,
    ShortType,
    StringType,
    StructType,
)

from kvspark.config.job import JobConfig
from kvspark.config.table.output_table import OutputConfig
from kvspark.errors import UsageError
from kvspark.spark.columns.missing_column import missing_column
from kvspark.spark.output.appended import check_added
from kvspark.spark.publishing.open_publisher import publisher_of
from kvspark.spark.tables.footer_schema import UNKNOWN
from kvspark.spark.tables.paths import local_path
from kvspark.spark.writing.file_schema import known_columns
from kvspark.table.merge.row_ids import refused_id
from kvspark.table.partition_folders import has_folder_name

_ID_TYPES = (ByteType, ShortType, IntegerType, LongType, DateType, DecimalType)


def check_output(config: JobConfig, schema: StructType) -> None:
    """Does nothing if rows of `schema` can be the output of `config`, or can be added to what is there.

    A type that nobody knows yet (void) is not looked at.

    Raises:
        UsageError: as `check_partition_by`, `check_merge_by`.
        OutputError: as `check_added`, and `Publisher.check_columns`.
    """
    check_partition_by(config.output, schema)
    check_merge_by(config.output, schema)
    if config.output.mode == "replace" and config.output.format == "parquet":
        return
    publisher, by, run_id = publisher_of(config), config.output.partition_by, config.run_id()
    if publisher is None:
        published = local_path(config.output.path, what="output path")
        check_added(published, schema, by, run_id)
    else:
        known = known_columns(schema)
        _check_folder_names(by, known, publisher.url)
        publisher.check_columns(known, by, run_id)


def _check_folder_names(by: Sequence[str], known: pa.Schema, url: str) -> None:
    """Does nothing if workers can name the folders of the columns `by`."""
    for name in by:
        kind = known.field(name).type
        if not (pa.types.is_null(kind) or has_folder_name(kind)):
            raise UsageError(
                f"output.partition_by names {name!r} of type {kind}, and workers write {url}, who name folders by texts, whole "
                "numbers, booleans and dates alone; nothing was written, cast the column, or publish Parquet files to a local path"
            )


def check_partition_by(output: OutputConfig, schema: StructType) -> None:
    """Does nothing if an output of `schema` can be in the folders that `output` asks for.

    Raises:
        UsageError: a column is missing, named twice or of a type that no folder's name holds, or none is
            left for the files.
    """
    columns = schema.names
    missing = [name for name in output.partition_by if name not in columns]
    if missing:
        raise UsageError(
            f"output.partition_by: {missing_column(missing[0], columns, 'name one of these')}; nothing was written"
        )
    if len(set(output.partition_by)) < len(output.partition_by):
        raise UsageError("output.partition_by names a column twice; name it once")
    if output.partition_by and len(output.partition_by) >= len(columns):
        raise UsageError(
            "output.partition_by names every column of the output; leave some for the files"
        )
    for name in output.partition_by:
        kind = schema[name].dataType
        if isinstance(kind, ArrayType | MapType | StructType | BinaryType):
            raise UsageError(
                f"output.partition_by names {name!r} of type {kind.simpleString()}, which no folder's name holds; "
                "name a column of texts, numbers or dates"
            )


def check_merge_by(output: OutputConfig, schema: StructType) -> None:
    """Does nothing if rows of `schema` are known again by the columns that `output` names.

    Raises:
        UsageError: a column is missing, or of a type that does not tell rows apart.
    """
    for name in output.merge_by:
        if name not in schema.names:
            raise UsageError(
                f"output.merge_by: {missing_column(name, schema.names, 'name columns of the input')}; nothing was written"
            )
        kind = schema[name].dataType
        if not isinstance(kind, _ID_TYPES) and kind not in (StringType(), UNKNOWN):
            raise refused_id(name, kind.simpleString())


def check_sort_by(output: OutputConfig, given: StructType) -> None:
    """Does nothing if rows with the columns `given`, those of the input, can be in the order that `output` asks for.

    Raises:
        UsageError: a column is missing, is one that the model makes, or has no order.
    """
    for name in output.sort_by:
        if name not in given.names:
            told = missing_column(
                name,
                given.names,
                "name columns of the input: rows are in order before they are scored",
            )
            raise UsageError(f"output.sort_by: {told}")
        kind = given[name].dataType
        if isinstance(kind, MapType):
            raise UsageError(
                f"output.sort_by names {name!r} of type {kind.simpleString()}, which has no order; name another column"
            )
