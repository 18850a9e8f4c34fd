"""The columns of an Iceberg table as Arrow has them, each field with its id.

Source: https://iceberg.apache.org/spec/#parquet
"""

from __future__ import annotations

import pyarrow as pa
from pyiceberg.schema import Schema
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    StructType,
    TimestampType,
    TimestamptzType,
)

from kvspark.errors import DataError
from kvspark.table.input.fields import with_id

_PLAIN: dict[type[IcebergType], pa.DataType] = {
    BooleanType: pa.bool_(),
    IntegerType: pa.int32(),
    LongType: pa.int64(),
    FloatType: pa.float32(),
    DoubleType: pa.float64(),
    StringType: pa.string(),
    BinaryType: pa.binary(),
    FixedType: pa.binary(),
    DateType: pa.date32(),
    TimestampType: pa.timestamp("us"),
    TimestamptzType: pa.timestamp("us", "UTC"),
}


def arrow_columns(schema: Schema, table: str) -> pa.Schema:
    """The columns of `schema`, of `table`.

    Raises:
        DataError: a column has a type that is not read here.
    """
    return pa.schema([_field(field, field.name, table) for field in schema.fields])


def _field(field: NestedField, path: str, table: str) -> pa.Field:
    return with_id(pa.field(field.name, _kind(field.field_type, path, table)), field.field_id)


def _kind(kind: IcebergType, path: str, table: str) -> pa.DataType:
    if isinstance(kind, StructType):
        return pa.struct([_field(each, f"{path}.{each.name}", table) for each in kind.fields])
    if isinstance(kind, ListType):
        return pa.list_(_kind(kind.element_type, f"{path}.element", table))
    if isinstance(kind, MapType):
        key = _kind(kind.key_type, f"{path}.key", table)
        return pa.map_(key, _kind(kind.value_type, f"{path}.value", table))
    if isinstance(kind, DecimalType):
        return pa.decimal128(kind.precision, kind.scale)
    found = _PLAIN.get(type(kind))
    if found is None:
        raise DataError(
            f"input {table}: column {path!r} has type {kind}, which is not read here; nothing was written, read it with Spark "
            "and write its rows to Parquet"
        )
    return found
