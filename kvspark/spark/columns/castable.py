"""Which column types become a model's dtype, by themselves or by a cast, and what to write for the others."""

from __future__ import annotations

from pyspark.errors import PySparkException
from pyspark.sql.pandas.types import from_arrow_type, to_arrow_type
from pyspark.sql.types import (
    ArrayType,
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
    NullType,
    NumericType,
    ShortType,
    StringType,
    StructType,
    TimestampType,
    YearMonthIntervalType,
)

from kvspark.infer.rows.arrow import arrow_type, exact_types
from kvspark.spec import TensorSpec

WHOLE_DIGITS = {
    "int8": 2,
    "int16": 4,
    "int32": 9,
    "int64": 18,
    "float32": 7,
    "float64": 15,
    "float16": 3,
    "bfloat16": 2,
    "uint8": 2,
}
"""Digits of a whole decimal that each dtype holds exactly, whatever they are."""

_CASTS: tuple[DataType, ...] = (
    BooleanType(),
    ByteType(),
    ShortType(),
    IntegerType(),
    LongType(),
    FloatType(),
    DoubleType(),
    StringType(),
)


def parsed(cast: str) -> DataType:
    """The type that a conf calls `cast`."""
    return next(kind for kind in _CASTS if kind.simpleString() == cast)


def spark_name(spec: TensorSpec) -> str:
    """The type of one number of `spec`, as Spark SQL calls it."""
    return from_arrow_type(arrow_type(TensorSpec(spec.name, spec.dtype, ()))).simpleString()


def is_exact(kind: DataType, dtype: str) -> bool:
    """True if every value of the column type `kind` is one of the model's `dtype`."""
    if isinstance(kind, DecimalType):
        return kind.scale == 0 and kind.precision <= WHOLE_DIGITS.get(dtype, 0)
    try:
        name = str(to_arrow_type(kind))
    except PySparkException:
        return False
    return name in exact_types(dtype)


def leaf_of(kind: DataType | None) -> DataType | None:
    """What the innermost arrays of `kind` hold; `kind` itself where it is no array."""
    while isinstance(kind, ArrayType):
        kind = kind.elementType
    return kind


def is_castable(kind: DataType, cast: str) -> bool:
    """True if Spark's `try_cast` takes values of `kind` to `cast`: some of them may still not fit."""
    if cast == "string" or isinstance(kind, NumericType | BooleanType | StringType | NullType):
        return True
    if isinstance(kind, TimestampType):
        return cast != "boolean"
    if isinstance(kind, DayTimeIntervalType | YearMonthIntervalType):
        return cast in {"tinyint", "smallint", "int", "bigint"}
    return False


def cast_advice(spec: TensorSpec) -> str:
    """What to write for a column whose type loses something as the input `spec`."""
    name = spark_name(spec)
    return (
        f"which does not become the model's {spec.dtype} without loss; ask for the cast: "
        f"{{column: ..., cast: {name}}}, or {{columns: [...], cast: {name}}} for all"
    )


def expr_advice(spec: TensorSpec, kind: DataType) -> str:
    """What to write for a column of a type that no cast makes the input `spec`."""
    how = "{expr: ...} that gives one"
    if isinstance(kind, StructType):
        how = "a field of it, {expr: COLUMN.FIELD}"
    elif isinstance(kind, MapType):
        how = "an entry of it, {expr: \"COLUMN['KEY']\"}"
    elif isinstance(kind, DateType):
        how = "{expr: unix_date(COLUMN)}, the days since 1970, or datediff to another day"
    return f"which no cast makes a {spark_name(spec)}; name {how}"
