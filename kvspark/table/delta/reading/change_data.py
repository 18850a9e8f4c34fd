"""The change data of a Delta table (`delta.enableChangeDataFeed`): which rows its commits say they have changed.

Source: https://github.com/delta-io/delta/blob/master/PROTOCOL.md#add-cdc-file
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from kvspark.table.delta.snapshot import location_of
from kvspark.table.input.table_file import ListedFile
from kvspark.table.merge.changes import ChangedFile, Kind
from kvspark.table.objects.object_store import ObjectStore
from kvspark.table.objects.storage import Storage


def change_data(
    storage: Storage, since: int, until: int, partitions: pa.Schema
) -> list[ChangedFile] | None:
    """The files with the rows that the commits behind version `since` up to `until` have changed.

    `partitions` are the partition columns. None where not each commit says it row by row: one has rewritten files without
    change data, marks rows as deleted, or has left the log, or there is no such version.

    Raises:
        OSError: the log cannot be read.
    """
    files: list[ChangedFile] = []
    if since > until:
        return None
    for version in range(since + 1, until + 1):
        data = _commit(storage, version)
        found = None if data is None else _changed(_actions(data))
        if found is None or any(
            {*each["partitionValues"]} != {*partitions.names} for _, each in found
        ):
            return None
        for kind, each in found:
            values = _values(each["partitionValues"], partitions)
            listed = ListedFile(location_of(each["path"], storage.url), values, None)
            files.append(ChangedFile(listed, kind, version))
    return files


def _commit(storage: Storage, version: int) -> bytes | None:
    """What the log says in `version`; None if it does not any more."""
    name = f"_delta_log/{version:020d}.json"
    if "://" in storage.url:
        stored = ObjectStore(storage).get(name)
        return None if stored is None else stored.data
    path = Path(storage.url, name)
    return path.read_bytes() if path.exists() else None


def _actions(data: bytes) -> list[tuple[str, Any]]:
    lines = [json.loads(line) for line in data.splitlines() if line.strip()]
    return [(kind, value) for line in lines for kind, value in line.items()]


def _changed(actions: Sequence[tuple[str, Any]]) -> list[tuple[Kind, Any]] | None:
    """The files of one commit that say what it has changed; None if none say it."""
    by_kind: dict[str, list[Any]] = {"cdc": [], "add": [], "remove": []}
    for kind, value in actions:
        if kind == "cdc" or (kind in by_kind and value.get("dataChange", True)):
            by_kind[kind].append(value)
    if by_kind["cdc"]:
        return [("said", each) for each in by_kind["cdc"]]
    marked = any(each.get("deletionVector") for each in by_kind["add"])
    return None if by_kind["remove"] or marked else [("came", each) for each in by_kind["add"]]


def _values(texts: Mapping[str, str | None], partitions: pa.Schema) -> dict[str, Any]:
    """An empty text is null there."""
    return {
        name: pa.scalar(text).cast(partitions.field(name).type).as_py() if text else None
        for name, text in texts.items()
    }
