"""Whether columns of given types become a model input, which is known before Spark computes anything."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from pyspark.sql.types import ArrayType, DataType

from kvspark.config.sql.one_number import is_one_number
from kvspark.errors import SchemaError, UsageError
from kvspark.infer.rows.arrow import shape_text
from kvspark.spark.columns.castable import (
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


def _is_value(value: Any, dtype: str) -> bool:
    """True if `value`, of a conf, can stand for a value of `dtype`."""
    if dtype == STRING or isinstance(value, str):
        return dtype == STRING and isinstance(value, str)
    if dtype == "bool" or isinstance(value, bool):
        return dtype == "bool" and isinstance(value, bool)
    if dtype == BINARY:
        return False
    if "int" in dtype:
        bounds = np.iinfo(dtype)
        return math.isfinite(value) and value == int(value) and bounds.min <= value <= bounds.max
    if dtype == "bfloat16":
        return not math.isfinite(value) or float(np.float32(value)).hex() == _bfloat16(value).hex()
    with np.errstate(over="ignore"):
        return not math.isfinite(value) or bool(np.isfinite(np.dtype(dtype).type(value)))


def _bfloat16(value: float) -> float:
    bits = np.float32(value).view(np.uint32) & np.uint32(0xFFFF0000)
    return float(bits.view(np.float32))
