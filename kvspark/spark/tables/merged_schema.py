"""One schema for files that do not agree: the union of their columns, in the wider of two types.

Only such pairs as Spark's Parquet reader reads without loss from either file.
"""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql.types import (
    ArrayType,
    ByteType,
    DataType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    MapType,
    ShortType,
    StructField,
    StructType,
    TimestampNTZType,
)

from kvspark.errors import SchemaError

_WHOLE: tuple[type[DataType], ...] = (ByteType, ShortType, IntegerType, LongType)
_DIGITS: dict[type[DataType], int] = {ByteType: 3, ShortType: 5, IntegerType: 10, LongType: 20}


def merged(schemas: Sequence[tuple[str, StructType]]) -> StructType:
    """The columns of all files, in the order in which they come first; `schemas` come with a file of each.

    Raises:
        SchemaError: two files have types of a column of which neither holds the other; names both.
    """
    (first, schema), rest = schemas[0], schemas[1:]
    for path, other in rest:
        made = _struct(schema, other)
        if isinstance(made, str):
            raise SchemaError(
                f"input files do not agree on column {made} in {first} and {path}, and neither type holds the other; "
                "nothing was written, rewrite one of them"
            )
        schema = made
    return schema


def _struct(one: StructType, other: StructType) -> StructType | str:
    """The fields of both, or what they do not agree on."""
    fields = {field.name.lower(): field for field in one.fields}
    for field in other.fields:
        known = fields.get(field.name.lower())
        if known is None:
            fields[field.name.lower()] = StructField(field.name, field.dataType, nullable=True)
            continue
        kind = _wider(known.dataType, field.dataType)
        if kind is None:
            here, there = known.dataType.simpleString(), field.dataType.simpleString()
            return f"{field.name!r}: {here} and {there}"
        fields[field.name.lower()] = StructField(
            known.name, kind, nullable=True, metadata=known.metadata
        )
    return StructType(list(fields.values()))


def _wider(one: DataType, other: DataType) -> DataType | None:
    """The type that holds both; None if there is none."""
    if one == other:
        return one
    if isinstance(one, StructType) and isinstance(other, StructType):
        made = _struct(one, other)
        return None if isinstance(made, str) else made
    if isinstance(one, ArrayType) and isinstance(other, ArrayType):
        element = _wider(one.elementType, other.elementType)
        return None if element is None else ArrayType(element, containsNull=True)
    if isinstance(one, MapType) and isinstance(other, MapType):
        key, value = _wider(one.keyType, other.keyType), _wider(one.valueType, other.valueType)
        return None if key is None or value is None else MapType(key, value, valueContainsNull=True)
    return _wider_value(one, other) or _wider_value(other, one)


def _wider_value(less: DataType, more: DataType) -> DataType | None:
    """`more`, or what both become, if it holds every `less`."""
    if isinstance(less, _WHOLE) and isinstance(more, _WHOLE):
        return more if _WHOLE.index(type(less)) < _WHOLE.index(type(more)) else None
    if isinstance(more, DoubleType):
        return more if isinstance(less, FloatType | ByteType | ShortType | IntegerType) else None
    if isinstance(more, DecimalType):
        if isinstance(less, DecimalType):
            scale = max(less.scale, more.scale)
            whole = max(less.precision - less.scale, more.precision - more.scale)
            return DecimalType(whole + scale, scale) if whole + scale <= 38 else None
        digits = _DIGITS.get(type(less))
        return more if digits is not None and more.precision - more.scale >= digits else None
    is_date = isinstance(less, DateType) and isinstance(more, TimestampNTZType)
    return more if is_date else None
