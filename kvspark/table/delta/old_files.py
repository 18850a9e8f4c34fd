"""The files of a Delta table with what its log says of their columns."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from kvspark.table.delta.actions import check_removable
from kvspark.table.delta.snapshot import Snapshot, location_of, telling
from kvspark.table.merge.merging import OldFile
from kvspark.table.merge.row_ids import days_of


def old_files(there: Snapshot, by: Collection[str]) -> list[OldFile]:
    """All files of the table, with the bounds of the columns `by`.

    Raises:
        OutputError: rows of it are marked as deleted, which its client does not rewrite.
        OSError: the log cannot be read.
    """
    with telling(there.url):
        check_removable(there.table, ())
        rows = pa.table(there.table.get_add_actions())
        paths = rows["path"].to_pylist()
        values = _by_column(rows, "partition")
        lows, highs = (_by_column(rows, name, by) for name in ("min", "max"))
    bounds = {name: list(zip(lows[name], highs[name], strict=True)) for name in lows.keys() & highs}
    bounds |= {name: [(each, each) for each in values[name]] for name in values}
    return [
        OldFile(path, location_of(path, there.url), _row(values, row), _row(bounds, row))
        for row, path in enumerate(paths)
    ]


def _by_column(
    rows: pa.Table, name: str, wanted: Collection[str] | None = None
) -> dict[str, list[Any]]:
    """What struct `name` of `rows` has in its fields, in those `wanted` alone where they are given."""
    if name not in rows.column_names:
        return {}
    column = rows[name]
    return {
        field.name: days_of(pc.struct_field(column, [place])).to_pylist()
        for place, field in enumerate(column.type)
        if wanted is None or field.name in wanted
    }


def _row(columns: dict[str, list[Any]], row: int) -> dict[str, Any]:
    return {name: values[row] for name, values in columns.items()}
