"""Columns that nobody reads, through a Python worker and back, whatever their names and types.

Spark's `mapInArrow` looks names up again, so that a name that is there twice, or that holds a dot,
stops it; and Arrow has no form for some of Spark's types. So where a table has such columns they go
by number, and as a type from which the value comes back as it was: months for an interval of months,
its text for an interval of months, days and microseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_type
from pyspark.sql.types import (
    ArrayType,
    CalendarIntervalType,
    DataType,
    IntegerType,
    MapType,
    NullType,
    StringType,
    StructField,
    StructType,
    YearMonthIntervalType,
)

from kvspark.errors import SchemaError

Change: TypeAlias = Callable[[Column, DataType], Column]


def carried(df: DataFrame) -> DataFrame:
    """`df` in forms that `mapInArrow` takes.

    Raises:
        SchemaError: a column has a type that has no such form; names it.
    """
    fields = df.schema.fields
    for field in fields:
        _check(field)
    if not _needs_help(fields):
        return df
    numbered = df.toDF(*(f"_{place}" for place in range(len(fields))))
    return numbered.select(
        *(
            _there(F.col(f"_{place}"), field.dataType).alias(f"_{place}")
            for place, field in enumerate(fields)
        )
    )


def carried_schema(
    given: DataFrame, own: Sequence[StructField], added: Sequence[StructField]
) -> StructType:
    """What a scored table has while it is on its way: the columns of `given` and what is `added`."""
    if not _needs_help(given.schema.fields, added):
        return StructType([*own, *added])
    kinds = [*(_carrier(field.dataType) for field in own), *(field.dataType for field in added)]
    return StructType(
        [
            StructField(f"_{place}", kind, field.nullable)
            for place, (field, kind) in enumerate(zip((*own, *added), kinds, strict=True))
        ]
    )


def brought_back(
    made: DataFrame, given: DataFrame, own: Sequence[StructField], added: Sequence[StructField]
) -> DataFrame:
    """The scored table with its own names and types."""
    if not _needs_help(given.schema.fields, added):
        return made
    kinds = [*(field.dataType for field in own), *(None for _ in added)]
    columns = [
        F.col(f"_{place}") if kind is None else _back(F.col(f"_{place}"), kind)
        for place, kind in enumerate(kinds)
    ]
    names = [field.name for field in (*own, *added)]
    return made.select(*(column.alias(name) for column, name in zip(columns, names, strict=True)))


def _needs_help(fields: Sequence[StructField], added: Sequence[StructField] = ()) -> bool:
    names = [field.name for field in (*fields, *added)]
    is_odd = len({name.lower() for name in names}) < len(names) or not all(
        name and not set(name) & set(".`") for name in names
    )
    return is_odd or any(_carrier(field.dataType) != field.dataType for field in fields)


def _check(field: StructField) -> None:
    if _carrier(field.dataType) != field.dataType and _has_a_name_twice(field.dataType):
        raise SchemaError(
            f"column {field.name!r} has type {field.dataType.simpleString()}, an interval beside a field whose name is there "
            "twice, which Spark cannot give to a Python worker; drop it before scoring"
        )
    try:
        to_arrow_type(_carrier(field.dataType))
    except PySparkException:
        raise SchemaError(
            f"column {field.name!r} has type {field.dataType.simpleString()}, which Spark cannot give to a Python "
            "worker; drop it before scoring, or cast it to string or binary"
        ) from None


def _has_a_name_twice(kind: DataType) -> bool:
    if isinstance(kind, ArrayType):
        return _has_a_name_twice(kind.elementType)
    if isinstance(kind, MapType):
        return _has_a_name_twice(kind.keyType) or _has_a_name_twice(kind.valueType)
    if not isinstance(kind, StructType):
        return False
    names = {name.lower() for name in kind.names}
    return len(names) < len(kind.names) or any(_has_a_name_twice(f.dataType) for f in kind.fields)


def _carrier(kind: DataType) -> DataType:
    """The type in which a value of `kind` goes through a worker."""
    if isinstance(kind, YearMonthIntervalType):
        return IntegerType()
    if isinstance(kind, CalendarIntervalType):
        return StringType()
    if isinstance(kind, ArrayType):
        # Arrow has no array without nulls of nothing, which array() is.
        is_open = kind.containsNull or isinstance(kind.elementType, NullType)
        return ArrayType(_carrier(kind.elementType), is_open)
    if isinstance(kind, MapType):
        is_open = kind.valueContainsNull or isinstance(kind.valueType, NullType)
        return MapType(_carrier(kind.keyType), _carrier(kind.valueType), is_open)
    if isinstance(kind, StructType):
        return StructType(
            [
                StructField(
                    field.name,
                    _carrier(field.dataType),
                    field.nullable or isinstance(field.dataType, NullType),
                    field.metadata,
                )
                for field in kind.fields
            ]
        )
    return kind


def _there(column: Column, kind: DataType) -> Column:
    if isinstance(kind, YearMonthIntervalType):
        whole = column.cast("interval year to month")
        return F.extract(F.lit("YEAR"), whole) * 12 + F.extract(F.lit("MONTH"), whole)
    if isinstance(kind, CalendarIntervalType):
        return column.cast("string")
    return _inside(column, kind, _there)


def _back(column: Column, kind: DataType) -> Column:
    if isinstance(kind, YearMonthIntervalType):
        return F.make_ym_interval(F.lit(0), column).cast(kind.simpleString())
    if isinstance(kind, CalendarIntervalType):
        return column.cast("interval")
    return _inside(column, kind, _back)


def _inside(column: Column, kind: DataType, change: Change) -> Column:
    """`column` with `change` made of what is inside, as far as there is anything to change."""
    if _carrier(kind) == kind or not isinstance(kind, ArrayType | MapType | StructType):
        return column
    if isinstance(kind, ArrayType):
        element = kind.elementType
        return F.transform(column, lambda item: change(item, element))
    if isinstance(kind, MapType):
        keys, values = kind.keyType, kind.valueType
        return F.map_from_arrays(
            F.transform(F.map_keys(column), lambda key: change(key, keys)),
            F.transform(F.map_values(column), lambda value: change(value, values)),
        )
    fields = [
        change(column.getField(field.name), field.dataType).alias(field.name)
        for field in kind.fields
    ]
    return F.when(column.isNotNull(), F.struct(*fields))
