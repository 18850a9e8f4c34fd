"""A table of Spark that its workers read, with Arrow, from a list of files: Spark itself needs no way to them."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

import pyarrow as pa
from pyspark.sql import SparkSession
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    BooleanType,
    ByteType,
    DataType,
    DateType,
    DayTimeIntervalType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    MapType,
    ShortType,
    StringType,
    StructField,
    StructType,
    TimestampNTZType,
    TimestampType,
)

from kvspark.errors import SchemaError
from kvspark.spark.sources.input.split_rows import SplitRows
from kvspark.table.input.fields import with_id
from kvspark.table.input.split_reader import SplitReader
from kvspark.table.input.splits import RowGroup, SplitSize, splits_of
from kvspark.table.input.table_file import TableFile

FIELD_ID = "kvspark.field_id"
"""In the metadata of a field of `WorkerTable.schema`: its id, where files are asked for it by that."""
_BATCH_ROWS = "spark.sql.execution.arrow.maxRecordsPerBatch"
_SPLIT_BYTES = "spark.sql.files.maxPartitionBytes"
_OPEN_BYTES = "spark.sql.files.openCostInBytes"
_PLAIN: tuple[type[DataType], ...] = (
    *(BooleanType, ByteType, ShortType, IntegerType, LongType, FloatType, DoubleType, DecimalType),
    *(BinaryType, DateType, TimestampType, TimestampNTZType, DayTimeIntervalType),
)
"""What Arrow brings from a worker to Spark as it is."""


@final
@dataclass(frozen=True, slots=True)
class WorkerTable:
    """The rows of `files`, whose row groups are `groups`, in the columns `schema`."""

    files: tuple[TableFile, ...]
    groups: tuple[tuple[RowGroup, ...], ...]
    schema: StructType

    def splits(self, spark: SparkSession) -> SplitRows:
        """The rows; those of a split in the order of the files.

        Raises:
            SchemaError: the workers have no such type.
        """
        size = SplitSize(
            _setting(spark, _SPLIT_BYTES),
            _setting(spark, _OPEN_BYTES),
            spark.sparkContext.defaultParallelism,
        )
        schema = self._nullable()
        _check_types(schema)
        wanted = pa.schema(_with_ids(to_arrow_schema(schema), self.schema))
        splits = splits_of(self.groups, size)
        return SplitRows(SplitReader(self.files, splits, wanted, _batch_rows(spark)), schema)

    def _nullable(self) -> StructType:
        # As Spark's own readers have it, whatever a file says.
        return _nullable(self.schema)


def _batch_rows(spark: SparkSession) -> int:
    """The most rows of a batch that Spark makes for a worker."""
    rows = int(spark.conf.get(_BATCH_ROWS) or 0)
    return rows if rows > 0 else sys.maxsize  # as Spark has it


def _setting(spark: SparkSession, name: str) -> int:
    """A size among Spark's settings, in bytes."""
    text = spark.conf.get(name)
    jvm = spark._jvm  # noqa: SLF001 - Spark's own parser of sizes
    assert jvm is not None
    return int(jvm.org.apache.spark.network.util.JavaUtils.byteStringAsBytes(text))


def _with_ids(fields: Iterable[pa.Field], kind: StructType) -> list[pa.Field]:
    """Arrow's `fields` of the columns `kind`, with the ids that these have."""
    return [_field_with_id(*pair) for pair in zip(fields, kind.fields, strict=True)]


def _field_with_id(field: pa.Field, known: StructField) -> pa.Field:
    field = field.with_type(_kind_with_ids(field.type, known.dataType))
    number = known.metadata.get(FIELD_ID)
    return with_id(field, int(number)) if number else field


def _kind_with_ids(kind: pa.DataType, known: DataType) -> pa.DataType:
    if isinstance(known, StructType):
        return pa.struct(_with_ids(kind, known))
    if isinstance(known, ArrayType):
        value = kind.value_field
        return pa.list_(value.with_type(_kind_with_ids(value.type, known.elementType)))
    if isinstance(known, MapType):
        key, value = kind.key_field, kind.item_field
        return pa.map_(
            key.with_type(_kind_with_ids(key.type, known.keyType)),
            value.with_type(_kind_with_ids(value.type, known.valueType)),
        )
    return kind


def _nullable(kind: StructType) -> StructType:
    return StructType([_nullable_field(field) for field in kind.fields])


def _nullable_field(field: StructField) -> StructField:
    notes = {name: value for name, value in field.metadata.items() if name != FIELD_ID}
    return StructField(field.name, _all_nullable(field.dataType), metadata=notes)


def _all_nullable(kind: DataType) -> DataType:
    if isinstance(kind, StructType):
        return _nullable(kind)
    if isinstance(kind, ArrayType):
        return ArrayType(_all_nullable(kind.elementType), containsNull=True)
    if isinstance(kind, MapType):
        key, value = _all_nullable(kind.keyType), _all_nullable(kind.valueType)
        return MapType(key, value, valueContainsNull=True)
    return kind


def _check_types(schema: StructType) -> None:
    for field in schema.fields:
        kind = _foreign(field.dataType)
        if kind is not None:
            raise SchemaError(
                f"column {field.name!r} is or holds a {kind.simpleString()}, which workers do not read; nothing was written, "
                "write the input without that column, or with another type"
            )


def _foreign(kind: DataType) -> DataType | None:
    """What workers cannot give to Spark in `kind`; None if they can all."""
    inside: list[DataType] = []
    if isinstance(kind, StructType):
        inside = [field.dataType for field in kind.fields]
    elif isinstance(kind, ArrayType):
        inside = [kind.elementType]
    elif isinstance(kind, MapType):
        inside = [kind.keyType, kind.valueType]
    elif not isinstance(kind, _PLAIN) and kind != StringType():  # there are collated ones
        return kind
    return next((found for each in inside if (found := _foreign(each)) is not None), None)
