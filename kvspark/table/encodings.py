"""How the columns of a file are encoded and compressed."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

_ZSTD_LEVEL = 3
"""parquet-mr's, and so Spark's."""

_EMBEDDING_ZSTD_LEVEL = 2
"""Floats of a trained model become no smaller by more work (ADR 0088)."""


def with_dictionary(schema: pa.Schema) -> list[str]:
    """The paths of all leaf columns but floats in lists, which are embeddings: no two are equal, and the try costs time."""
    return [path for path, is_embedding in _leaves(schema) if not is_embedding]


def zstd_levels(schema: pa.Schema) -> dict[str, int]:
    """The level of zstd of each leaf column, by its path."""
    return {
        path: _EMBEDDING_ZSTD_LEVEL if is_embedding else _ZSTD_LEVEL
        for path, is_embedding in _leaves(schema)
    }


def _leaves(schema: pa.Schema) -> Iterator[tuple[str, bool]]:
    """The path of each leaf column, and whether it holds floats of lists."""
    for field in schema:
        yield from _leaves_of(field.name, field.type, is_in_list=False)


def _leaves_of(path: str, kind: pa.DataType, *, is_in_list: bool) -> Iterator[tuple[str, bool]]:
    if pa.types.is_list(kind):
        yield from _leaves_of(f"{path}.list.element", kind.value_type, is_in_list=True)
    elif pa.types.is_map(kind):
        for name, inner in (("key", kind.key_type), ("value", kind.item_type)):
            yield from _leaves_of(f"{path}.key_value.{name}", inner, is_in_list=is_in_list)
    elif pa.types.is_struct(kind):
        for field in kind:
            yield from _leaves_of(f"{path}.{field.name}", field.type, is_in_list=is_in_list)
    else:
        yield path, is_in_list and pa.types.is_floating(kind)
