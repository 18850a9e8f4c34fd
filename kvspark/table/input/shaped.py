"""Arrow arrays of a Parquet file in the types of a table: fields by id or name, and types that hold the same values.

What a file's writer noted for Arrow alone (dictionaries, large lists, durations) is no type of Parquet, and Spark
does not see it.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kvspark.table.input.fields import places_of


def shaped(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """`array` as `kind`, every value the same; a field of a struct that it has not is null.

    Raises:
        pyarrow.ArrowException: a value does not fit.
    """
    if isinstance(array.type, pa.BaseExtensionType):
        array = array.storage
    if array.type.equals(kind):
        return array
    if pa.types.is_struct(kind) and pa.types.is_struct(array.type):
        return _struct(array, kind)
    if pa.types.is_map(kind) and pa.types.is_map(array.type):
        entries = pa.struct([kind.key_field, kind.item_field])
        return _around(array, kind, shaped(array.values, entries))
    if pa.types.is_list(kind):
        array = _plain_list(array)
        return _around(array, kind, shaped(array.values, kind.value_type))
    return array.cast(kind)


def _struct(array: pa.StructArray, kind: pa.StructType) -> pa.Array:
    children = []
    for field, place in zip(kind, places_of(kind, array.type), strict=True):
        child = pa.nulls(len(array), field.type) if place is None else array.field(place)
        children.append(shaped(child, field.type))
    mask = array.is_null() if array.null_count else None
    return pa.StructArray.from_arrays(children, fields=list(kind), mask=mask)


def _plain_list(array: pa.Array) -> pa.ListArray:
    """`array`, of whatever kind of list, with offsets of 32 bits."""
    if pa.types.is_list(array.type):
        return array
    if pa.types.is_list_view(array.type) or pa.types.is_large_list_view(array.type):
        # pyarrow 26 casts a view by its own offsets, which are too few for a list.
        ends = np.cumsum(pc.list_value_length(array).fill_null(0), dtype=np.int32)
        starts = pa.array(np.insert(ends, 0, 0), pa.int32())
        return pa.ListArray.from_arrays(starts, array.flatten(), mask=array.is_null())
    return array.cast(pa.list_(array.type.value_field))


def _around(array: pa.Array, kind: pa.DataType, values: pa.Array) -> pa.Array:
    own = array.buffers()[:2]
    return pa.Array.from_buffers(
        kind, len(array), own, array.null_count, array.offset, children=[values]
    )
