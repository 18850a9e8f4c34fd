"""Between what a caller of `Model.predict` has, arrays and lists, and Arrow arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from kvspark.errors import SchemaError
from kvspark.infer.arrow import arrow_type
from kvspark.spec import BINARY, STRING, TensorSpec


def arrow_columns(columns: Mapping[str, Any], specs: Sequence[TensorSpec]) -> dict[str, pa.Array]:
    """The Arrow array of each of `specs` among `columns`.

    Raises:
        SchemaError: one is missing, or an item is not what it takes.
    """
    missing = [spec.name for spec in specs if spec.name not in columns]
    if missing:
        raise SchemaError(f"input {missing[0]!r} is missing; got {', '.join(columns) or 'none'}")
    return {spec.name: arrow_column(columns[spec.name], spec) for spec in specs}


def arrow_column(values: Any, spec: TensorSpec) -> pa.Array:
    """The Arrow array of `values` (an Arrow array, an array, a list or a tensor), one item a row.

    Raises:
        SchemaError: an item is not what `spec` takes.
    """
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    if spec.dtype == STRING:
        return _arrow_text(values, spec)
    if spec.dtype == BINARY:
        return _arrow_bytes(values, spec)
    wanted = np.dtype(spec.dtype if spec.dtype != "bfloat16" else "float32")
    column = _column_dtype(spec)
    rows = [
        None if row is None else np.asarray(row, dtype=wanted).astype(column).tolist()
        for row in values
    ]
    return pa.array(rows, type=arrow_type(spec))


def numpy_column(array: pa.Array, spec: TensorSpec) -> Any:
    """The rows of `array` as array (n, *shape), or a list of n arrays where a dimension varies."""
    if not spec.is_fixed:
        return [np.array(row.as_py(), dtype=_column_dtype(spec)) for row in array]
    flat = array
    for _ in spec.shape:
        flat = flat.flatten()
    shape = tuple(dim or 0 for dim in spec.shape)
    dtype = "float32" if spec.dtype == "bfloat16" else spec.dtype
    return flat.to_numpy(zero_copy_only=False).astype(dtype, copy=False).reshape(len(array), *shape)


def _arrow_text(values: Any, spec: TensorSpec) -> pa.Array:
    try:
        return pa.array(list(values), type=pa.string())
    except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
        raise SchemaError(
            f"input {spec.name!r} takes text; got a value that is not a string"
        ) from error


def _arrow_bytes(values: Any, spec: TensorSpec) -> pa.Array:
    rows = list(values)
    # Arrow would take a string for its UTF-8: a path for the picture that it names.
    others = [row for row in rows if not isinstance(row, bytes | bytearray | None)]
    if others:
        raise SchemaError(
            f"input {spec.name!r} takes bytes; got a {type(others[0]).__name__}, pass the file's "
            "content"
        )
    return pa.array(rows, type=pa.large_binary())


def _column_dtype(spec: TensorSpec) -> np.dtype[Any]:
    return np.dtype(
        {"float16": "float32", "bfloat16": "float32", "uint8": "int16"}.get(spec.dtype, spec.dtype)
    )
