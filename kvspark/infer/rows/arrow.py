"""Between Arrow arrays, as Spark has them, and arrays of rows, as a model has them."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from kvspark.errors import DataError, SchemaError
from kvspark.spec import BINARY, STRING, Rows, TensorSpec
from kvspark.wording import count_of

Array = npt.NDArray[np.generic]

_COLUMN_TYPES = {
    "float32": pa.float32(),
    "float64": pa.float64(),
    "float16": pa.float32(),
    "bfloat16": pa.float32(),
    "int8": pa.int8(),
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "uint8": pa.int16(),
    "bool": pa.bool_(),
    STRING: pa.string(),
    BINARY: pa.binary(),
}
"""The column type of each dtype. Spark has neither half floats nor unsigned integers: both widen exactly."""

_WIDENINGS = {
    "float32": ("halffloat", "int8", "int16", "uint8", "uint16", "bool"),
    "float64": (
        "halffloat",
        "float",
        "int8",
        "int16",
        "int32",
        "uint8",
        "uint16",
        "uint32",
        "bool",
    ),
    "int8": ("bool",),
    "int16": ("int8", "uint8", "bool"),
    "int32": ("int8", "int16", "uint8", "uint16", "bool"),
    "int64": ("int8", "int16", "int32", "uint8", "uint16", "uint32", "bool"),
    "uint8": ("int16", "int8", "bool"),
    "float16": ("float", "int8", "bool"),
    "bfloat16": ("float", "int8", "bool"),
}
"""Column types besides its own that an input takes, because each value keeps its meaning. A value of
`uint8`, `float16` and `bfloat16`, which Spark lacks, is looked at one by one."""


def exact_types(dtype: str) -> tuple[str, ...]:
    """The Arrow types of columns that are the dtype `dtype` of a model, or become it without loss."""
    own = "bool" if dtype == "bool" else str(_COLUMN_TYPES[dtype])
    return (own, dtype, *_WIDENINGS.get(dtype, ()))


def arrow_type(spec: TensorSpec) -> pa.DataType:
    """The column type of `spec`: a scalar, or lists nested once for each dimension."""
    type_: pa.DataType = _COLUMN_TYPES[spec.dtype]
    for _ in spec.shape:
        type_ = pa.list_(type_)
    return type_


def check_input_type(type_: pa.DataType, spec: TensorSpec) -> None:
    """Returns if a column of `type_` can be the input `spec`.

    Raises:
        SchemaError: it cannot; names both types.
    """
    item, depth = type_, 0
    while (
        pa.types.is_list(item) or pa.types.is_large_list(item) or pa.types.is_fixed_size_list(item)
    ):
        item, depth = item.value_type, depth + 1
    if spec.dtype == STRING:
        is_right = pa.types.is_string(item) or pa.types.is_large_string(item)
    elif spec.dtype == BINARY:
        is_right = pa.types.is_binary(item) or pa.types.is_large_binary(item)
    else:
        is_right = str(item) in exact_types(spec.dtype)
    is_flat = depth == 1 and len(spec.shape) > 1 and None not in spec.shape
    if not is_right or not (depth == len(spec.shape) or is_flat):
        advice = "cast the column, or map another one to this input"
        if depth == 0 and len(spec.shape) == 1:
            advice = f"join columns to it by a list, also one alone: inputs: {{{spec.name}: [...]}}"
        raise SchemaError(
            f"input {spec.name!r}: the column has type {type_}, the model takes {arrow_type(spec)}"
            f"{f' of shape {shape_text(spec)}' if spec.shape else ''}; {advice}"
        )


def tensor_array(array: pa.Array, spec: TensorSpec) -> Rows:
    """The rows of `array` as tensors of `spec`: array (n, *shape), or n arrays where a dimension varies.

    Raises:
        DataError: a row has another shape, or a null or a value out of range inside.
    """
    offsets: list[Array] = []
    flat = array
    while not pa.types.is_primitive(flat.type):
        offsets.append(_offsets(flat))
        flat = flat.flatten()
    if flat.null_count:
        raise DataError(f"input {spec.name!r}: nulls inside an array")
    items = _items(flat, spec)
    if spec.is_fixed:
        return _fixed(items, offsets, len(array), spec)
    return _ragged(items, offsets, spec)


def output_array(rows: Rows, spec: TensorSpec) -> pa.Array:
    """The column of the output `spec` for `rows`."""
    if isinstance(rows, list):
        return _nested([_widened(row, spec) for row in rows], spec)
    flat = _widened(np.ascontiguousarray(rows), spec)
    made = pa.array(flat.reshape(-1), type=_COLUMN_TYPES[spec.dtype])
    for depth in range(len(spec.shape), 0, -1):
        count = math.prod(rows.shape[:depth])
        size = rows.shape[depth]
        offsets = np.arange(count + 1, dtype=np.int64) * size
        made = pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), made)
    return made


def _items(flat: pa.Array, spec: TensorSpec) -> Array:
    values: Array = flat.to_numpy(zero_copy_only=False)
    if spec.dtype == "bfloat16":
        bits = values.astype("<f4").view("<u4")
        if (bits & 0xFFFF).any():
            raise DataError(f"input {spec.name!r}: a value is no bfloat16 (round the column first)")
        halves: Array = (bits >> 16).astype("<u2")
        return halves
    made: Array = values.astype(spec.numpy_dtype)
    if spec.dtype in ("uint8", "float16") and not np.array_equal(
        made, values, equal_nan=spec.dtype == "float16"
    ):
        raise DataError(f"input {spec.name!r}: a value does not fit {spec.dtype}")
    return made


def _offsets(array: pa.Array) -> Array:
    if pa.types.is_fixed_size_list(array.type):
        starts: Array = np.arange(len(array) + 1) * array.type.list_size
        return starts
    offsets = array.offsets.to_numpy()
    from_zero: Array = offsets - offsets[0]
    return from_zero


def _fixed(items: Array, offsets: list[Array], count: int, spec: TensorSpec) -> Array:
    shape = tuple(dim or 0 for dim in spec.shape)
    dims = shape if len(offsets) == len(shape) else (math.prod(shape),)
    for level, dim in zip(offsets, dims, strict=True):
        lengths = np.diff(level)
        wrong = np.flatnonzero(lengths != dim)
        if len(wrong):
            raise DataError(
                f"input {spec.name!r}: an array of {count_of(int(lengths[wrong[0]]), 'value')} where {dim} are expected; "
                f"the shape of a row is {shape_text(spec)}, as in the example that the model was made with "
                f"(for rows of any length, make it with variable_length=[{spec.name!r}])"
            )
    return items.reshape(count, *shape)


def _ragged(items: Array, offsets: list[Array], spec: TensorSpec) -> list[Array]:
    if spec.shape[0] is not None or None in spec.shape[1:]:
        raise DataError(f"input {spec.name!r}: only the first dimension of {spec.shape} may vary")
    rest = tuple(dim or 0 for dim in spec.shape[1:])
    for level, dim in zip(offsets[1:], rest, strict=True):
        if (np.diff(level) != dim).any():
            raise DataError(f"input {spec.name!r}: expected arrays of {dim} items inside each row")
    width = math.prod(rest)
    ends = offsets[0] * width
    return [items[a:b].reshape(-1, *rest) for a, b in pairwise(ends)]


def _widened(rows: Array, spec: TensorSpec) -> Array:
    if spec.dtype == "bfloat16":
        return (rows.astype("<u4") << 16).view("<f4")
    return rows.astype({"float16": "<f4", "uint8": "<i2"}.get(spec.dtype, rows.dtype), copy=False)


def _nested(rows: list[Array], spec: TensorSpec) -> pa.Array:
    flat = (
        np.concatenate([row.reshape(-1) for row in rows]) if rows else np.empty(0, spec.numpy_dtype)
    )
    made = pa.array(flat, type=_COLUMN_TYPES[spec.dtype])
    for depth in range(len(spec.shape) - 1, -1, -1):
        sizes = [row.shape[depth] for row in rows for _ in range(math.prod(row.shape[:depth]))]
        made = pa.ListArray.from_arrays(pa.array(np.cumsum([0, *sizes]), type=pa.int32()), made)
    return made


def shape_text(spec: TensorSpec) -> str:
    """The shape of one row in words: `(8)`, `(any, 3)`; `()` for one number."""
    return f"({', '.join('any' if dim is None else str(dim) for dim in spec.shape)})"
