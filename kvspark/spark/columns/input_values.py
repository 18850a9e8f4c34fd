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

from kvspark.config.sql.one_number import is_one_number
from kvspark.errors import SchemaError, UsageError
from kvspark.infer.rows.arrow import exact_types, shape_text
from kvspark.spark.columns.castable import (
    WHOLE_DIGITS,
    cast_advice,
    expr_advice,
    is_castable,
    is_exact,
    leaf_of,
    parsed,
    spark_name,
)
from kvspark.spark.columns.input_parts import MadeInput, Part
from kvspark.spec import BINARY, STRING, TensorSpec
from kvspark.wording import count_of

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


def check_made(spec: TensorSpec, made: MadeInput, kinds: Sequence[DataType | None]) -> None:
    """Does nothing if columns of `kinds` become the input `spec`; None is a type that nobody knows yet.

    Raises:
        SchemaError, UsageError: as `made_value`.
    """
    _check_shape(spec, made, kinds)
    lossy: list[str] = []
    for part, kind in zip(made.parts, kinds, strict=True):
        leaf = leaf_of(kind)
        if part.cast is not None and not is_exact(parsed(part.cast), spec.dtype):
            raise SchemaError(
                f"input {spec.name!r}: {part} is cast to {part.cast}, {cast_advice(spec)}"
            )
        if leaf is not None and not is_castable(leaf, part.cast or spark_name(spec)):
            raise SchemaError(
                f"input {spec.name!r}: {part} has type {leaf.simpleString()}, {expr_advice(spec, leaf)}"
            )
        if part.cast is None and leaf is not None and not is_exact(leaf, spec.dtype):
            lossy.append(f"{part} has type {leaf.simpleString()}")
        if part.default is not None:
            _check_default(spec, part, is_array=isinstance(kind, ArrayType))
    if lossy:
        raise SchemaError(f"input {spec.name!r}: {', '.join(lossy)}, {cast_advice(spec)}")


def _check_default(spec: TensorSpec, part: Part, *, is_array: bool) -> None:
    if is_array:
        raise UsageError(
            f"inputs.{spec.name}: {part} is an array, and a default stands for one value; use expr: coalesce(...)"
        )
    if not _is_value(part.default, spec.dtype):
        raise UsageError(
            f"inputs.{spec.name}: the default of {part} is {part.default!r}, which is no {spec.dtype}"
        )


def _check_shape(spec: TensorSpec, made: MadeInput, kinds: Sequence[DataType | None]) -> None:
    if not made.is_joined:
        _check_depth(spec, made.parts[0], kinds[0])
        return
    if spec.dtype in (STRING, BINARY):
        raise SchemaError(
            f"input {spec.name!r} takes one text or picture a row, and {len(kinds)} columns are joined to it; "
            "join texts with an expr: concat_ws(' ', a, b)"
        )
    # What Spark computes may be an array too.
    may_be_long = any(kind is None or isinstance(kind, ArrayType) for kind in kinds)
    wanted = math.prod(dim or 0 for dim in spec.shape)
    if not spec.shape or (spec.is_fixed and not may_be_long and wanted != len(kinds)):
        alone = "; write it without the list" if not spec.shape and len(kinds) == 1 else ""
        takes = count_of(wanted, "value") if spec.shape else "one number"
        are = "is" if len(kinds) == 1 else "are"
        raise SchemaError(
            f"input {spec.name!r} takes {takes} a row, and {count_of(len(kinds), 'column')} {are} joined to it "
            f"({', '.join(map(str, made.parts))}){alone}"
        )


def _check_depth(spec: TensorSpec, part: Part, kind: DataType | None) -> None:
    """Does nothing if one value of `part` can be a row of `spec`, as far as that is known without Spark."""
    is_number = isinstance(part.expr, str) and is_one_number(part.expr)
    if kind is not None:
        is_number = not isinstance(kind, ArrayType)
    if is_number and spec.shape:
        has = "one number a row" if kind is None else f"of type {kind.simpleString()}"
        advice = "name a column of arrays"
        if len(spec.shape) == 1:
            advice = f"join columns to it by a list, also one alone: inputs: {{{spec.name}: [...]}}"
        raise SchemaError(
            f"input {spec.name!r}: {part} is {has}, and the model takes arrays of shape {shape_text(spec)}; {advice}"
        )


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
        whole = _is_whole(self._spec.dtype)
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


def _is_whole(dtype: str) -> bool:
    return "int" in dtype


def _is_value(value: Any, dtype: str) -> bool:
    """True if `value`, of a conf, can stand for a value of `dtype`."""
    if dtype == STRING or isinstance(value, str):
        return dtype == STRING and isinstance(value, str)
    if dtype == "bool" or isinstance(value, bool):
        return dtype == "bool" and isinstance(value, bool)
    if dtype == BINARY:
        return False
    if _is_whole(dtype):
        bounds = np.iinfo(dtype)
        return math.isfinite(value) and value == int(value) and bounds.min <= value <= bounds.max
    if dtype == "bfloat16":
        return not math.isfinite(value) or float(np.float32(value)).hex() == _bfloat16(value).hex()
    with np.errstate(over="ignore"):
        return not math.isfinite(value) or bool(np.isfinite(np.dtype(dtype).type(value)))


def _bfloat16(value: float) -> float:
    bits = np.float32(value).view(np.uint32) & np.uint32(0xFFFF0000)
    return float(bits.view(np.float32))
