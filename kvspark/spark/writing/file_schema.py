"""The Arrow schema of a file that is, for every reader, as if Spark had written it."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

import pyarrow as pa
from pyspark.errors import PySparkException
from pyspark.sql.pandas.types import to_arrow_type
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
    YearMonthIntervalType,
)

from kvspark.table.partition_folders import has_folder_name

_SPARK_SCHEMA = "org.apache.spark.sql.parquet.row.metadata"
_SPARK_VERSION = "org.apache.spark.version"
"""Without it Spark does not know in which calendar the dates before 1582 are."""
_FIELD_ID = "parquet.field.id"
_ARROW_FIELD_ID = "PARQUET:field_id"

_SAME = (
    BinaryType,
    BooleanType,
    ByteType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    ShortType,
    StringType,
)
"""Types that pyarrow writes as Spark does."""

_OTHERS: dict[type[DataType], pa.DataType] = {
    TimestampType: pa.timestamp("us", "UTC"),
    TimestampNTZType: pa.timestamp("us"),
    DayTimeIntervalType: pa.int64(),  # microseconds; only Spark's own schema says what they are
    YearMonthIntervalType: pa.int32(),  # months
}


def file_schema(schema: StructType, partition_by: Collection[str], version: str) -> pa.Schema:
    """All columns of `schema` as files have them, with the metadata of files without those of `partition_by`.

    `version` is that of the Spark that reads the rows.

    Raises:
        TypeError: a type is none that `refusal` lets pass.
    """
    inside = StructType([field for field in schema.fields if field.name not in partition_by])
    metadata = {
        _SPARK_VERSION: version,
        _SPARK_SCHEMA: json.dumps(inside.jsonValue(), separators=(",", ":"), ensure_ascii=False),
    }
    return pa.schema([_field(field) for field in schema.fields], metadata=metadata)


def known_columns(schema: StructType) -> pa.Schema:
    """The columns of `schema` as files have them; of type null where that is not known, or files have none like it."""

    def found(field: StructField) -> pa.Field:
        try:
            return _field(field)
        except (TypeError, PySparkException):
            return pa.field(field.name, pa.null())

    return pa.schema([found(field) for field in schema.fields])


def refusal(schema: StructType, partition_by: Sequence[str]) -> str | None:
    """Why the workers cannot write a table of `schema` as Spark would; None if they can."""
    if _has_a_name_twice(schema):
        return "two columns have one name"
    for field in schema.fields:
        try:
            kind = _field(field).type
        except (TypeError, PySparkException):
            return f"column {field.name!r} is {field.dataType.simpleString()}"
        is_plain = not isinstance(field.dataType, StringType) or field.dataType == StringType()
        if field.name in partition_by and not (is_plain and has_folder_name(kind)):
            return (
                f"output.partition_by names {field.name!r} of type {field.dataType.simpleString()}"
            )
    return None


def _field(field: StructField) -> pa.Field:
    number = (field.metadata or {}).get(_FIELD_ID)
    metadata = None if number is None else {_ARROW_FIELD_ID: str(number)}
    return pa.field(field.name, _type(field.dataType), field.nullable, metadata)


def _type(kind: DataType) -> pa.DataType:
    if isinstance(kind, ArrayType):
        return pa.list_(pa.field("element", _type(kind.elementType), kind.containsNull))
    if isinstance(kind, MapType):
        value = pa.field("value", _type(kind.valueType), kind.valueContainsNull)
        return pa.map_(pa.field("key", _type(kind.keyType), nullable=False), value)
    if isinstance(kind, StructType):
        if not kind.fields or _has_a_name_twice(kind):
            raise TypeError(kind)
        return pa.struct([_field(field) for field in kind.fields])
    if type(kind) in _OTHERS:
        return _OTHERS[type(kind)]
    if isinstance(kind, _SAME):
        return to_arrow_type(kind)
    raise TypeError(kind)


def _has_a_name_twice(kind: StructType) -> bool:
    return len({name.lower() for name in kind.names}) < len(kind.names)
