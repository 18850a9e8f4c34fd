"""Between what a caller of `Model.predict` has, arrays and lists, and Arrow arrays."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from kvspark.errors import RowError, SchemaError
from kvspark.infer.rows.arrow import arrow_type, shape_text
from kvspark.spec import BINARY, STRING, TensorSpec


def arrow_columns(columns: Any, specs: Sequence[TensorSpec]) -> dict[str, pa.Array]:
    """The Arrow arrays of the inputs `specs`, which `columns` (a dict, a data frame) has by name.

    Raises:
        SchemaError: an input is missing, or its values are not what it takes.
        RowError: a number does not fit the input's dtype.
    """
    names = getattr(columns, "column_names", None) or getattr(columns, "keys", None)
    if names is None:
        wanted = ", ".join(f"{spec.name!r}: [...]" for spec in specs)
        raise SchemaError(
            f"predict takes a dict with the values of all rows, {{{wanted}}}; got a {_kind(columns)}"
        )
    there = [str(name) for name in (names() if callable(names) else names)]
    for spec in specs:
        if spec.name not in there:
            near = difflib.get_close_matches(spec.name, there, n=1)
            advice = f"; did you mean {near[0]!r}?" if near else ""
            raise SchemaError(
                f"input {spec.name!r} is missing; got {', '.join(there) or 'none'}{advice}"
            )
    return {spec.name: arrow_column(columns[spec.name], spec) for spec in specs}


def arrow_column(values: Any, spec: TensorSpec) -> pa.Array:
    """The Arrow array of `values` (an Arrow array, an array, a list or a tensor), one item a row.

    Raises:
        SchemaError: an item is not what `spec` takes.
        RowError: a number does not fit the dtype of `spec`.
    """
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    if isinstance(values, str | bytes | Mapping) or not hasattr(values, "__iter__"):
        raise SchemaError(
            f"input {spec.name!r} takes a list or an array with a value for each row; got one "
            f"{_kind(values)}, write [value] for one row"
        )
    if spec.dtype == STRING:
        return _arrow_text(values, spec)
    if spec.dtype == BINARY:
        return _arrow_bytes(values, spec)
    if hasattr(values, "detach"):
        values = _array_of(values)
    if getattr(values, "shape", None) == ():
        raise SchemaError(f"input {spec.name!r} takes a value for each row; got one number")
    if _is_as_wanted(values, spec):
        return _nested(values, spec)
    try:
        rows = [None if _is_missing(row) else _row(row, spec, i) for i, row in enumerate(values)]
        return pa.array(rows, type=arrow_type(spec))
    except (pa.ArrowTypeError, pa.ArrowInvalid, TypeError, OverflowError):  # they quote the value
        wanted = f"an array of shape {shape_text(spec)}" if spec.shape else "one number"
        raise SchemaError(
            f"input {spec.name!r} takes {wanted}, {spec.dtype}, for each row, and a row is something else; "
            "check the number of its dimensions, and for text or None inside it"
        ) from None


def _is_as_wanted(values: Any, spec: TensorSpec) -> bool:
    """True for an array that has the rows of a column already."""
    return (
        type(values) is np.ndarray
        and values.dtype == _column_dtype(spec)
        and values.shape[1:] == spec.shape
        and 0 < values.size < 1 << 31
    )


def _nested(values: npt.NDArray[Any], spec: TensorSpec) -> pa.Array:
    """The rows of an array as lists; as they are, since a Python float has no signalling NaN."""
    made = pa.array(values.reshape(-1))
    for dim in reversed(spec.shape):
        ends = np.arange(0, len(made) + 1, dim, dtype=np.int32)
        made = pa.ListArray.from_arrays(pa.array(ends), made)
    return made


def _is_missing(row: Any) -> bool:
    """True for a row without a value: None, pandas' NA, a number that a masked array hides."""
    return row is None or row is np.ma.masked or type(row).__name__ in ("NAType", "NaTType")


def _row(row: Any, spec: TensorSpec, place: int) -> Any:
    """The row as lists of numbers of the column's type; as it came where numpy cannot hold it."""
    if np.ma.is_masked(row):
        return row.tolist()  # None for what is hidden
    wanted = np.dtype(spec.dtype if spec.dtype != "bfloat16" else "float32")
    try:
        given = np.asarray(_array_of(row) if hasattr(row, "detach") else row)
    except ValueError:  # lists of several lengths
        return row
    if given.dtype.kind in "mM":
        raise TypeError("Arrow would take times for numbers")
    if given.dtype.kind not in "biuf":
        return row
    with np.errstate(all="ignore"):
        made = given.astype(wanted)
    if not _is_kept(row, given, made):
        raise RowError(
            f"input {spec.name!r}: a number does not fit {spec.dtype}; round or convert the values first",
            place,
        )
    return made.astype(_column_dtype(spec)).tolist()


def _is_kept(row: Any, given: npt.NDArray[Any], made: npt.NDArray[Any]) -> bool:
    """True if `made` holds the numbers of `row`, of which `given` is the array.

    A float may be rounded, as everywhere in numpy and torch, but not to infinity; an integer may not change.
    """
    if made.dtype.kind != "f":
        return bool((made == given).all())
    if given.dtype.kind == "f":
        if (np.isfinite(given) & ~np.isfinite(made)).any():
            return False
        # Beside a float numpy makes floats of integers.
        rounded = np.flatnonzero((made != given) & (given == np.rint(given)))
        items = np.empty(0) if isinstance(row, np.ndarray) else np.asarray(row, dtype=object)
        return not any(isinstance(items.flat[at], int | np.integer) for at in rounded if items.size)
    wide = made.astype(np.float64)  # it holds what half and single precision hold
    if given.dtype.kind != "b" and (wide >= float(np.iinfo(given.dtype).max) + 1).any():
        return False
    with np.errstate(all="ignore"):
        return bool((wide.astype(given.dtype) == given).all())


def _array_of(tensor: Any) -> Any:
    plain = tensor.detach().cpu()
    plain = plain if str(plain.layout) == "torch.strided" else plain.to_dense()
    return (plain.float() if str(plain.dtype) == "torch.bfloat16" else plain).numpy()


def _kind(value: Any) -> str:
    return type(value).__name__


def numpy_column(array: pa.Array, spec: TensorSpec) -> Any:
    """The rows of `array` as array (n, *shape), or a list of n arrays where a dimension varies."""
    if not spec.is_fixed:
        rest = tuple(dim or 0 for dim in spec.shape[1:])
        rows = [np.array(row.as_py(), dtype=_column_dtype(spec)) for row in array]
        # An empty list does not say how wide what is not in it would be.
        return [row if row.size else row.reshape(len(row), *rest) for row in rows]
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
