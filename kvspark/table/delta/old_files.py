"""The files of a Delta table with what its log says of their columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from kvspark.table.delta.actions import check_removable
from kvspark.table.delta.snapshot import Snapshot, location_of, telling
from kvspark.table.merge.merging import OldFile


def old_files(there: Snapshot) -> list[OldFile]:
    """All files of the table.

    Raises:
        OutputError: rows of it are marked as deleted, which its client does not rewrite.
        OSError: the log cannot be read.
    """
    with telling(there.url):
        check_removable(there.table, ())
        rows = pa.table(there.table.get_add_actions()).to_pylist()
    return [_file(row, there.url) for row in rows]


def _file(row: Mapping[str, Any], url: str) -> OldFile:
    values = row.get("partition") or {}
    lows, highs = row.get("min") or {}, row.get("max") or {}
    bounds = {name: (low, highs.get(name)) for name, low in lows.items()}
    bounds |= {name: (value, value) for name, value in values.items()}
    return OldFile(row["path"], location_of(row["path"], url), values, bounds)
