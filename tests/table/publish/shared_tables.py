"""Small tables in object stores and in HDFS whose versions may have files of several runs."""

from __future__ import annotations

import secrets
from dataclasses import replace

import pyarrow as pa

import kvspark
from kvspark.table.objects.objects import Listed
from kvspark.table.objects.storage import Storage
from kvspark.table.place.opening import open_objects
from kvspark.table.publish.object_publisher import ObjectPublisher
from kvspark.table.publish.publisher import Attempt, Content, Replaces
from kvspark.table.sink import Sink

Row = tuple[int, str | None]

BY = ("kind",)
SHARING: tuple[Replaces, ...] = ("run", "partitions")
LIST = "_kvspark/files.json"
QUARANTINE = "_kvspark/quarantine"


class Target:
    """A new table of numbers, parted by a text."""

    def __init__(self, kind: str, base: str) -> None:
        self.kind, self.url = kind, f"{base}/{secrets.token_hex(4)}/table"
        self.store = open_objects(Storage(self.url))

    def publisher(self, replaces: Replaces = "run", *, keep: int = 1) -> ObjectPublisher:
        return ObjectPublisher(Storage(self.url), owner="small", keep=keep, replaces=replaces)

    def objects(self) -> dict[str, Listed]:
        """All files with rows, of all versions."""
        found = self.store.listed("_runs")
        return {each.name: each for each in found if each.name.endswith(".parquet")}

    def ids(self) -> list[int]:
        """What a reader finds."""
        return ids(kvspark.read(self.url).to_table())


def ids(table: pa.Table) -> list[int]:
    found: list[int] = sorted(table["id"].to_pylist())
    return found


def table_of(rows: list[Row]) -> pa.Table:
    kinds = pa.array([kind for _, kind in rows], pa.string())
    return pa.table({"id": pa.array([number for number, _ in rows], pa.int64()), "kind": kinds})


def written(attempt: Attempt, rows: pa.Table, by: tuple[str, ...] = BY) -> Content:
    sink = Sink(attempt.place, f"part-00000-{attempt.name[-8:]}", rows.schema, partition_by=by)
    files = tuple(sink.write(rows.to_batches())) or (sink.write_empty(),)
    return Content(files, rows.schema, by)


def publish(
    publisher: ObjectPublisher,
    run_id: str,
    rows: list[Row] | pa.Table,
    by: tuple[str, ...] = BY,
    *,
    bad: int = 0,
) -> Attempt:
    with publisher.lock(run_id):
        publisher.check(run_id)
        attempt = publisher.prepare(run_id)
        content = written(attempt, rows if isinstance(rows, pa.Table) else table_of(rows), by)
        if bad:
            aside = Sink(attempt.place, f"{QUARANTINE}/part-00000", pa.schema({"id": pa.int64()}))
            files = aside.write(pa.table({"id": [bad]}).to_batches())
            content = replace(content, beside=tuple(each.name for each in files))
        publisher.commit(attempt, content)
        return attempt
