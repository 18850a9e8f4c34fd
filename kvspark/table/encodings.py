"""Which columns of a file get a dictionary."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa


def with_dictionary(schema: pa.Schema) -> list[str]:
    """The paths of all leaf columns but floats in lists, which are embeddings: no two are equal, and the try costs time."""
    return [path for field in schema for path in _leaves(field.name, field.type, is_in_list=False)]


def _leaves(path: str, kind: pa.DataType, *, is_in_list: bool) -> Iterator[str]:
    if pa.types.is_list(kind):
        yield from _leaves(f"{path}.list.element", kind.value_type, is_in_list=True)
    elif pa.types.is_map(kind):
        for name, inner in (("key", kind.key_type), ("value", kind.item_type)):
            yield from _leaves(f"{path}.key_value.{name}", inner, is_in_list=is_in_list)
    elif pa.types.is_struct(kind):
        for field in kind:
            yield from _leaves(f"{path}.{field.name}", field.type, is_in_list=is_in_list)
    elif not (is_in_list and pa.types.is_floating(kind)):
        yield path
