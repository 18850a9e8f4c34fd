"""A Delta table whose rows runs replace by their ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable

from kvspark.errors import KvsparkError
from kvspark.table.delta.delta_publisher import DeltaPublisher
from kvspark.table.delta.log import DeltaLog
from kvspark.table.delta.versions import version_of
from kvspark.table.merge.merging import Merge
from kvspark.table.merge.row_ids import RowIds
from kvspark.table.objects.object_store import ObjectStore
from kvspark.table.objects.storage import Storage
from kvspark.table.publish.publisher import Content
from tests.table.publish.deltas import write

BY = ("id",)


def publisher_to(folder: Path | str, by: tuple[str, ...] = BY, *, keep: int = 1) -> DeltaPublisher:
    return DeltaPublisher(
        Storage(str(folder)), owner="small", keep=keep, replaces="rows", merge_by=by
    )


def table(scores: dict[Any, float]) -> pa.Table:
    return pa.table({"id": pa.array(list(scores)), "score": list(scores.values())})


def ids(*values: Any) -> RowIds:
    return RowIds(pa.table({"id": pa.array(values, pa.int64())}))


def publish(
    folder: Path | str,
    run_id: str,
    rows: pa.Table,
    changed: RowIds | None = None,
    *,
    by: tuple[str, ...] = BY,
    partition_by: tuple[str, ...] = (),
    keep: int = 1,
) -> Content:
    """A whole run; what it has committed."""
    publisher = publisher_to(folder, by, keep=keep)
    with publisher.lock(run_id):
        publisher.check(run_id)
        attempt = publisher.prepare(run_id)
        content = Content(write(attempt, rows, partition_by), rows.schema, partition_by)
        try:
            content = publisher.merged(attempt, content, Merge(by, changed))
            publisher.commit(attempt, content)
        except KvsparkError:
            publisher.abort(attempt)
            raise
    return content


def scores(folder: Path | str) -> dict[Any, float]:
    """What the format's own client reads."""
    there = DeltaTable(str(folder), storage_options={"allow_http": "true"})
    rows = there.to_pyarrow_table().select(["id", "score"]).to_pylist()
    found = {row["id"]: row["score"] for row in rows}
    assert len(found) == len(rows)
    return found


def counts(content: Content) -> tuple[int, int]:
    assert content.merged is not None
    return content.merged.replaced, content.merged.removed


def needless(url: Path | str) -> set[str]:
    """Files of rows that no version names."""
    storage = Storage(str(url))
    log, publisher = DeltaLog(storage), publisher_to(url)
    named = log.paths(None)
    for each in publisher.versions():
        named |= log.paths(version_of(each))
    if storage.url.startswith("/"):
        paths = Path(url).glob("runs/**/*.parquet")
        return {each.relative_to(url).as_posix() for each in paths} - named
    return {each.name for each in ObjectStore(storage).listed("runs")} - named
