"""Arrow's types as Delta Lake has them, in the JSON of its log.

Source: https://github.com/delta-io/delta/blob/master/PROTOCOL.md#schema-serialization-format
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import pyarrow as pa

from kvspark.errors import OutputError

Kind: TypeAlias = "str | Mapping[str, Any]"
"""The type of a column: a name, or an object with types in it."""

_PLAIN: Mapping[pa.DataType, str] = {
    pa.bool_(): "boolean",
    pa.int8(): "byte",
    pa.int16(): "short",
    pa.int32(): "integer",
    pa.int64(): "long",
    pa.float32(): "float",
    pa.float64(): "double",
    pa.string(): "string",
    pa.binary(): "binary",
    pa.date32(): "date",
    pa.timestamp("us", "UTC"): "timestamp",
    pa.timestamp("us"): "timestamp_ntz",
}
"""What kvspark writes. Unsigned numbers and nanoseconds, which the client would take, become other values there."""


def fields_of(schema: pa.Schema) -> list[dict[str, Any]]:
    """The columns of `schema`, with their own nullability and without its metadata.

    Raises:
        OutputError: Delta Lake has no such column.
    """
    return [_field(each, each.name) for each in schema]


def relaxed(kind: Kind) -> Kind:
    """`kind` with nulls allowed all over, as Spark makes a table of Delta Lake."""
    if isinstance(kind, str):
        return kind
    made = {name: relaxed(inner) if name in _INSIDE else inner for name, inner in kind.items()}
    made |= {name: True for name in _NULLABLE if name in kind}
    if kind["type"] == "struct":
        made["fields"] = [
            each | {"type": relaxed(each["type"]), "nullable": True} for each in kind["fields"]
        ]
    return made


def fits(there: Kind, ours: Kind) -> bool:
    """True if values of `ours` may stand in a column of type `there`: the same type, with no null where none may be."""
    if isinstance(there, str) or isinstance(ours, str):
        return there == ours
    if there["type"] != ours["type"]:
        return False
    if there["type"] == "struct":
        return _all_fit(there["fields"], ours["fields"])
    inner = all(fits(there[name], ours[name]) for name in _INSIDE if name in there)
    return inner and all(there[name] or not ours[name] for name in _NULLABLE if name in there)


def worded(kind: Kind) -> str:
    """`kind` in the words of SQL, for messages."""
    if isinstance(kind, str):
        return kind
    if kind["type"] == "struct":
        fields = (f"{each['name']}: {worded(each['type'])}" for each in kind["fields"])
        return f"struct<{', '.join(fields)}>"
    return f"{kind['type']}<{', '.join(worded(kind[name]) for name in _INSIDE if name in kind)}>"


def has_inside(kind: Kind, name: str) -> bool:
    """True if `name` is a type somewhere in `kind`."""
    if isinstance(kind, str):
        return kind == name
    inside = [kind[each] for each in _INSIDE if each in kind]
    return any(has_inside(each, name) for each in inside) or any(
        has_inside(each["type"], name) for each in kind.get("fields", ())
    )


_INSIDE = ("elementType", "keyType", "valueType")
_NULLABLE = ("containsNull", "valueContainsNull")


def _all_fit(there: Sequence[Any], ours: Sequence[Any]) -> bool:
    return len(there) == len(ours) and all(
        left["name"] == right["name"]
        and fits(left["type"], right["type"])
        and (left["nullable"] or not right["nullable"])
        for left, right in zip(there, ours, strict=True)
    )


def _field(field: pa.Field, path: str) -> dict[str, Any]:
    return {
        "name": field.name,
        "type": _kind(field.type, path),
        "nullable": field.nullable,
        "metadata": {},
    }


def _kind(kind: pa.DataType, path: str) -> Kind:
    if kind in _PLAIN:
        return _PLAIN[kind]
    if pa.types.is_decimal128(kind):
        return f"decimal({kind.precision},{kind.scale})"
    if pa.types.is_map(kind):
        return {
            "type": "map",
            "keyType": _kind(kind.key_type, f"{path}.key"),
            "valueType": _kind(kind.item_type, f"{path}.value"),
            "valueContainsNull": kind.item_field.nullable,
        }
    if pa.types.is_list(kind):
        return {
            "type": "array",
            "elementType": _kind(kind.value_type, f"{path}.element"),
            "containsNull": kind.value_field.nullable,
        }
    if pa.types.is_struct(kind) and kind.num_fields:
        return {"type": "struct", "fields": [_field(each, f"{path}.{each.name}") for each in kind]}
    raise OutputError(
        f"column {path!r} has type {kind}, which tables of Delta Lake do not have; nothing was published, leave the column "
        "out or cast it"
    )
