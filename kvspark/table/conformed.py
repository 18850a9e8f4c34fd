"""Arrow rows in exactly the types of a file, down to the names and nullability inside of lists, maps and structs.

What is equal but for those is not copied.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc


def conformed(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The columns of `batch`, by their places, as `schema` has them.

    Raises:
        pyarrow.ArrowInvalid: a value does not fit its type, or is null where none may be.
    """
    arrays = [_as(array, field.type) for array, field in zip(batch.columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _as(array: pa.Array, kind: pa.DataType, hidden: pa.BooleanArray | None = None) -> pa.Array:
    """`array` as `kind`; `hidden` is true where a struct around it is null, so that no reader sees the value."""
    if array.type.equals(kind, check_metadata=True) and not _closes_a_struct(kind):
        return array
    if pa.types.is_map(kind) and pa.types.is_map(array.type):
        entries = pa.struct([kind.key_field, kind.item_field])
        return _with_values(array, kind, _as(array.values, entries))
    if pa.types.is_list(kind) and pa.types.is_list(array.type):
        return _with_values(array, kind, _as(array.values, kind.value_type))
    if pa.types.is_struct(kind) and pa.types.is_struct(array.type):
        return _struct(array, kind, hidden)
    return array.cast(kind)


def _struct(array: pa.StructArray, kind: pa.StructType, hidden: pa.BooleanArray | None) -> pa.Array:
    mask = array.is_null() if array.null_count else None
    if mask is not None:
        hidden = mask if hidden is None else pc.or_(mask, hidden)
    children = []
    for place, field in enumerate(kind):
        child = array.field(place)
        if not field.nullable and child.null_count:
            child = _closed(child, hidden, field.name)
        children.append(_as(child, field.type, hidden))
    return pa.StructArray.from_arrays(children, fields=list(kind), mask=mask)


def _closed(array: pa.Array, hidden: pa.BooleanArray | None, name: str) -> pa.Array:
    """`array` with some value where it is null.

    Spark gives a field that is never null as null where its struct is, and Parquet's writer takes no null in it.
    """
    if hidden is None or pc.any(pc.and_not(array.is_null(), hidden)).as_py():
        raise pa.ArrowInvalid(f"field {name!r} has a null, and may have none")
    if pa.types.is_struct(array.type):
        children = [array.field(place) for place in range(array.type.num_fields)]
        return pa.StructArray.from_arrays(children, fields=list(array.type))
    inside = [array.values] if pa.types.is_nested(array.type) else None
    own = [None, *array.buffers()[1 : array.type.num_buffers]]
    return pa.Array.from_buffers(array.type, len(array), own, 0, array.offset, children=inside)


def _with_values(array: pa.Array, kind: pa.DataType, values: pa.Array) -> pa.Array:
    own = array.buffers()[:2]
    return pa.Array.from_buffers(
        kind, len(array), own, array.null_count, array.offset, children=[values]
    )


def _closes_a_struct(kind: pa.DataType) -> bool:
    """True if a struct in `kind` has a field that is never null."""
    fields = [kind.field(place) for place in range(kind.num_fields)]
    is_struct = pa.types.is_struct(kind)
    return any((is_struct and not f.nullable) or _closes_a_struct(f.type) for f in fields)
