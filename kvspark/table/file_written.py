"""What is known of a Parquet file once it is written, without reading it again."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TypeAlias, final

import pyarrow as pa
import pyarrow.parquet as pq

Plain: TypeAlias = bool | int | float | str | None


@final
@dataclass(frozen=True, slots=True)
class ColumnRange:
    """What a footer says of one leaf column over all row groups."""

    nulls: int | None
    """None where the footer does not say, as for the fields below."""
    low: Plain = None
    """A bound, as footers have it: NaN is left out. Dates and times are ISO 8601, decimals their text, binary is hex."""
    high: Plain = None


@final
@dataclass(frozen=True, slots=True)
class FileWritten:
    """One file of a sink."""

    name: str
    """In the folder of the sink."""
    folder: str
    """Where the file belongs below the table: `dt=2026-01-01/hour=2`, empty for a table without folders."""
    rows: int
    size_bytes: int
    sha256: str
    """Of the whole file, in hex."""
    columns: Mapping[str, ColumnRange] = field(default_factory=dict)
    """By the path of a leaf column, `features.list.element` say."""

    def to_json(self) -> dict[str, Any]:
        """This value as plain JSON types."""
        columns = {path: [each.nulls, each.low, each.high] for path, each in self.columns.items()}
        return {
            "name": self.name,
            "folder": self.folder,
            "rows": self.rows,
            "bytes": self.size_bytes,
            "sha256": self.sha256,
            "columns": columns,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> FileWritten:
        """The value that `to_json` made."""
        columns = {path: ColumnRange(*each) for path, each in value["columns"].items()}
        return cls(
            value["name"],
            value["folder"],
            value["rows"],
            value["bytes"],
            value["sha256"],
            columns,
        )


def column_ranges(metadata: pq.FileMetaData) -> dict[str, ColumnRange]:
    """What the footer `metadata` says of each leaf column, by its path."""
    found = {}
    for leaf in range(metadata.num_columns):
        groups = [metadata.row_group(n).column(leaf) for n in range(metadata.num_row_groups)]
        found[metadata.schema.column(leaf).path] = _range([group.statistics for group in groups])
    return found


def _range(groups: list[pq.Statistics | None]) -> ColumnRange:
    known = [group for group in groups if group is not None]
    if len(known) < len(groups) or not all(group.has_null_count for group in known):
        return ColumnRange(None)
    nulls = sum(group.null_count for group in known)
    valued = [group for group in known if group.num_values]
    if not valued or not all(group.has_min_max for group in valued):
        return ColumnRange(nulls)
    try:
        return ColumnRange(
            nulls, _plain(min(g.min for g in valued)), _plain(max(g.max for g in valued))
        )
    except (pa.ArrowException, ValueError, OverflowError):  # a date that Python has not
        return ColumnRange(nulls)


def _plain(value: Any) -> Plain:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return f"{value:f}"
    return value if isinstance(value, bool | int | float | str) else None
