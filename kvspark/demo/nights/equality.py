"""Whether two tables are the same, bit for bit."""

from __future__ import annotations

import pyarrow as pa

_INTEGER = {16: pa.int16(), 32: pa.int32(), 64: pa.int64()}


def first_difference(left: pa.Table, right: pa.Table, *, key: str) -> str | None:
    """Names the first column that differs between two tables, in the order of `key`; None if none does.

    Floating-point numbers are compared as the integers of their bits, so that a NaN equals the same
    NaN, and -0.0 is not 0.0. `key` is unique in both tables.
    """
    if left.schema != right.schema:
        return f"schema: {left.schema.names} and {right.schema.names}, or their types"
    if left.num_rows != right.num_rows:
        return f"rows: {left.num_rows} and {right.num_rows}"
    left, right = (table.sort_by(key).combine_chunks() for table in (left, right))
    for name in left.column_names:
        if not _bits(left[name]).equals(_bits(right[name])):
            return f"column {name}"
    return None


def _bits(column: pa.ChunkedArray) -> pa.Array:
    whole = column.combine_chunks()
    array = whole if isinstance(whole, pa.Array) else pa.concat_arrays(whole.chunks)
    return array.view(_as_integers(array.type))


def _as_integers(kind: pa.DataType) -> pa.DataType:
    """`kind` with an integer of the same size wherever it has a floating-point number."""
    if pa.types.is_floating(kind):
        return _INTEGER[kind.bit_width]
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_as_integers(field.type)) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(_as_integers(kind.key_type), _as_integers(kind.item_type))
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_as_integers(kind.value_type)))
    if pa.types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_as_integers(kind.value_type)))
    if pa.types.is_fixed_size_list(kind):
        item = kind.value_field.with_type(_as_integers(kind.value_type))
        return pa.list_(item, kind.list_size)
    return kind
