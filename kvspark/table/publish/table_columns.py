"""The columns of a published table, as the list of its files says them: what rows must have that are added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import pyarrow as pa

NOT_KNOWN = str(pa.null())
"""The type of a column of which nobody knows it yet: it differs from no other."""


@final
@dataclass(frozen=True, slots=True)
class TableColumns:
    """All columns of a table."""

    types: Mapping[str, str]
    """By name, those of the folders too; Arrow's words, without what they say of nulls."""
    partition_by: tuple[str, ...]

    @classmethod
    def of(cls, schema: pa.Schema, partition_by: Sequence[str]) -> TableColumns:
        """Those of `schema`."""
        return cls({each.name: str(_plain(each.type)) for each in schema}, tuple(partition_by))

    def difference(self, others: TableColumns) -> str | None:
        """How the columns of a run's rows, `others`, differ from these: the first of them; None if they do not."""
        if self.partition_by != others.partition_by:
            return (
                f"it is partitioned by {_said(self.partition_by)}, and this run's rows by "
                f"{_said(others.partition_by)}"
            )
        for name in {**self.types, **others.types}:
            here, there = self.types.get(name, "missing"), others.types.get(name, "missing")
            if here != there and NOT_KNOWN not in (here, there):
                return f"its column {name!r} is {here}, and {there} in this run's rows"
        return None

    def folders(self) -> pa.Schema:
        """The columns of the folders, with the types of their values."""
        kinds = [pa.type_for_alias(self.types[name]) for name in self.partition_by]
        return pa.schema(list(zip(self.partition_by, kinds, strict=True)))

    def to_json(self) -> dict[str, Any]:
        """This value as plain JSON types."""
        return {"types": dict(self.types), "partition_by": list(self.partition_by)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TableColumns:
        """The value that `to_json` made."""
        return cls(dict(value["types"]), tuple(value["partition_by"]))


def _plain(kind: pa.DataType) -> pa.DataType:
    """`kind` with nulls at every depth: a model's output may say that it has none, and an input not."""
    if pa.types.is_struct(kind):
        return pa.struct([(each.name, _plain(each.type)) for each in kind])
    if pa.types.is_map(kind):
        return pa.map_(_plain(kind.key_type), _plain(kind.item_type))
    if pa.types.is_list(kind):
        return pa.list_(_plain(kind.value_type))
    return kind


def _said(names: Sequence[str]) -> str:
    return ", ".join(names) or "nothing"
