"""The Spark expressions that make a model input of columns: joined, cast, and with defaults for nulls.

Spark makes them in the scan's own projection, behind the table's columns; they are dropped again when
the row is scored. So every way in (score, udf, job, Spark Connect) has the same values, and a task
that looks for distinct inputs or spreads rows sees what the model sees.

An input whose row has no value is null as a whole, and a number says which of its columns is why.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, DataType

from kvspark.infer.rows.arrow import exact_types
from kvspark.spark.columns.castable import (
    WHOLE_DIGITS,
    cast_advice,
    leaf_of,
    spark_name,
)
from kvspark.spark.columns.input_check import check_made
from kvspark.spark.columns.input_parts import MadeInput, Part
from kvspark.spec import TensorSpec

_SPARK_NAMES = {
    "int8": "tinyint",
    "int16": "smallint",
    "int32": "int",
    "int64": "bigint",
    "float": "float",
    "double": "double",
    "bool": "boolean",
    "string": "string",
    "binary": "binary",
}


_BEYOND = {"int": 2.0**31, "bigint": 2.0**63}
"""The first number above what the type holds, which floating point holds and rounds others to."""


@final
@dataclass(frozen=True, slots=True)
class Source:
    """One part of an input, as a column of Spark."""

    part: Part
    column: Column
    kind: DataType | None
    """None where Spark has not resolved it yet."""
    is_nullable: bool = True


@final
@dataclass(frozen=True, slots=True)
class Fault:
    """Why a row has no value for an input."""

    holds: Column
    """True in such a row, never null."""
    error: str
    """`NullValue` or `WrongValue`."""
    message: str


def made_value(
    spec: TensorSpec, made: MadeInput, sources: Sequence[Source]
) -> tuple[Column, list[Fault]]:
    """The input `spec` of each row, null where a fault holds, and the faults that can be.

    Raises:
        SchemaError: a column has a type that does not become the input's without loss, or another
            number of columns is joined than the input takes.
        UsageError: a default is no value of the input.
    """
    check_made(spec, made, [source.kind for source in sources])
    values, faults = [], []
    for source in sources:
        value, more = _Cast(spec, source, _depth(spec, made, source)).value()
        values.append(value)
        faults += more
    value = _joined(values, sources) if made.is_joined else values[0]
    if faults:
        is_bad = faults[0].holds
        for fault in faults[1:]:
            is_bad = is_bad | fault.holds
        value = F.when(~is_bad, value)
    return value, faults


def _joined(values: Sequence[Column], sources: Sequence[Source]) -> Column:
    if not any(isinstance(source.kind, ArrayType) for source in sources):
        return F.array(*values)
    parts = [
        value if isinstance(source.kind, ArrayType) else F.array(value)
        for value, source in zip(values, sources, strict=True)
    ]
    return F.concat(*parts)


def _depth(spec: TensorSpec, made: MadeInput, source: Source) -> int:
    """How deep the arrays of `source` are nested."""
    if source.kind is None:
        return 0 if made.is_joined else len(spec.shape)
    depth, kind = 0, source.kind
    while isinstance(kind, ArrayType):
        depth, kind = depth + 1, kind.elementType
    return depth


@final
class _Cast:
    """One part of an input as values of the input's dtype."""

    def __init__(self, spec: TensorSpec, source: Source, depth: int) -> None:
        self._spec = spec
        self._source = source
        self._part = source.part
        self._depth = depth
        self._target = spark_name(spec)

    def value(self) -> tuple[Column, list[Fault]]:
        part, column = self._part, self._source.column
        kind = leaf_of(self._source.kind)
        if part.cast is None and self._source.kind is None:
            column = self._guarded(column)
        faults = []
        if part.default is None and self._source.is_nullable:
            faults.append(Fault(column.isNull(), "NullValue", f"{part} is null"))
        if part.cast is not None and self._can_fail(kind):
            faults.append(
                Fault(
                    _somewhere(column, self._depth, self._misfits),
                    "WrongValue",
                    f"{part} holds a value that is no {part.cast}",
                )
            )
        made = _each(column, self._depth, self._cast)
        if part.default is not None:
            made = F.when(column.isNull(), self._default(part.default)).otherwise(made)
        return made, faults

    def _cast(self, item: Column) -> Column:
        if self._part.cast is not None:
            item = item.try_cast(self._part.cast)
        return item.cast(self._target)

    def _can_fail(self, kind: DataType | None) -> bool:
        cast = self._part.cast
        names = {"tinyint": 1, "smallint": 2, "int": 3, "bigint": 4, "float": 5, "double": 6}
        known = None if kind is None else kind.simpleString()
        # To an equal or a wider type, by Spark's own order of numbers.
        widens = known in names and cast in names and names[known] <= names[cast]
        return not (known == cast or widens or cast == "string" or known == "boolean")

    def _misfits(self, item: Column) -> Column:
        made = item.try_cast(self._part.cast or "")
        misfits = item.isNotNull() & made.isNull()
        if self._part.cast in _BEYOND:
            # Spark gives the largest whole number for the first one beyond it, and says nothing of it.
            is_float = F.typeof(item).isin("float", "double")
            is_beyond = is_float & (item.cast("double") == _BEYOND[self._part.cast])
            misfits = misfits | F.coalesce(is_beyond, F.lit(col=False))
        if self._part.cast in ("float", "double"):
            # A finite number that is too large becomes infinite, and Spark says nothing of it.
            is_infinite = made.cast("double").isin(math.inf, -math.inf)
            said = item.cast("string").rlike("(?i)inf")
            misfits = misfits | F.coalesce(is_infinite & ~said, F.lit(col=False))
        return misfits

    def _default(self, default: Any) -> Column:
        if self._spec.dtype == "float16":
            default = float(np.float16(default))
        whole = "int" in self._spec.dtype
        return F.lit(int(default) if whole else default).cast(self._target)

    def _guarded(self, column: Column) -> Column:
        """`column`, which must turn out to have a type that becomes the dtype without loss."""
        names = [_SPARK_NAMES[t] for t in exact_types(self._spec.dtype) if t in _SPARK_NAMES]
        digits = WHOLE_DIGITS.get(self._spec.dtype, 0)
        decimals = "|".join(map(str, range(1, digits + 1)))
        leaf = (
            f"({'|'.join(names)}|decimal[(]({decimals}),0[)])" if digits else f"({'|'.join(names)})"
        )
        kind = "array<" * self._depth + leaf + ">" * self._depth
        message = F.concat(
            F.lit(f"kvspark.errors.SchemaError: input {self._spec.name!r}: {self._part} has type "),
            F.typeof(column),
            F.lit(f", {cast_advice(self._spec)}"),
        )
        return F.when(F.typeof(column).rlike(f"^{kind}$"), column).otherwise(F.raise_error(message))


def _each(column: Column, depth: int, make: Any) -> Column:
    if not depth:
        made: Column = make(column)
        return made
    return F.transform(column, lambda item: _each(item, depth - 1, make))


def _somewhere(column: Column, depth: int, holds: Any) -> Column:
    if not depth:
        found: Column = holds(column)
        return found
    inside = F.exists(column, lambda item: _somewhere(item, depth - 1, holds))
    return F.coalesce(inside, F.lit(col=False))
