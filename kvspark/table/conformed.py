"""Arrow rows in exactly the types of a file, down to the names and nullability inside of lists, maps and structs.

What is equal but for those is not copied.
"""

from __future__ import annotations

import pyarrow as pa


def conformed(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The columns of `batch`, by their places, as `schema` has them.

    Raises:
        pyarrow.ArrowInvalid: a value does not fit its type.
    """
    arrays = [_as(array, field.type) for array, field in zip(batch.columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _as(array: pa.Array, kind: pa.DataType) -> pa.Array:
    if array.type.equals(kind, check_metadata=True):
        return array
    if pa.types.is_map(kind) and pa.types.is_map(array.type):
        entries = pa.struct([kind.key_field, kind.item_field])
        return _with_values(array, kind, _as(array.values, entries))
    if pa.types.is_list(kind) and pa.types.is_list(array.type):
        return _with_values(array, kind, _as(array.values, kind.value_type))
    if pa.types.is_struct(kind) and pa.types.is_struct(array.type):
        fields = list(kind)
        children = [_as(array.field(n), field.type) for n, field in enumerate(fields)]
        if not children:
            return array.cast(kind)
        mask = array.is_null() if array.null_count else None
        return pa.StructArray.from_arrays(children, fields=fields, mask=mask)
    return array.cast(kind)


def _with_values(array: pa.Array, kind: pa.DataType, values: pa.Array) -> pa.Array:
    own = array.buffers()[:2]
    return pa.Array.from_buffers(
        kind, len(array), own, array.null_count, array.offset, children=[values]
    )
