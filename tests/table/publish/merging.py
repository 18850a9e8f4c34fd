"""A table of Delta or Iceberg whose rows runs replace by their ids. The URL of one of Iceberg has its catalog in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable

from kvspark.errors import KvsparkError
from kvspark.table.delta.delta_publisher import DeltaPublisher
from kvspark.table.delta.log import DeltaLog
from kvspark.table.delta.versions import version_of
from kvspark.table.iceberg.opening import iceberg_publisher
from kvspark.table.merge.merging import Merge
from kvspark.table.merge.row_ids import RowIds
from kvspark.table.objects.object_store import ObjectStore
from kvspark.table.objects.storage import Storage
from kvspark.table.publish.publisher import Attempt, Content, Publisher
from kvspark.table.sink import Sink
from kvspark.table.sink_options import SinkOptions
from tests.table.publish.iceberg_tables import iceberg_at, iceberg_left_over, iceberg_table

BY = ("id",)


def is_iceberg(url: Path | str) -> bool:
    return " " in str(url)


def publisher_to(url: Path | str, by: tuple[str, ...] = BY, *, keep: int = 1) -> Publisher:
    if is_iceberg(url):
        return iceberg_publisher(
            iceberg_at(str(url)), owner="small", keep=keep, replaces="rows", merge_by=by
        )
    return DeltaPublisher(Storage(str(url)), owner="small", keep=keep, replaces="rows", merge_by=by)


def written(attempt: Attempt, rows: pa.Table, by: tuple[str, ...] = ()) -> Content:
    """What one task writes of `rows`: files of three."""
    schema = attempt.file_schema(rows.schema, by)
    name = f"part-00000-{attempt.name[-8:]}"
    sink = Sink(
        attempt.place, name, schema, SinkOptions(group_rows=3, file_bytes=1), partition_by=by
    )
    files = tuple(sink.write(rows.to_batches())) or (sink.write_empty(),)
    return Content(files, rows.schema, by)


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
        try:
            content = written(attempt, rows, partition_by)
            content = publisher.merged(attempt, content, Merge(by, changed))
            publisher.commit(attempt, content)
        except KvsparkError:
            publisher.abort(attempt)
            raise
    return content


def read(url: Path | str) -> pa.Table:
    """What the format's own client reads."""
    if is_iceberg(url):
        return iceberg_table(str(url)).scan().to_arrow()
    there = DeltaTable(str(url), storage_options={"allow_http": "true"})
    return pa.table(there.to_pyarrow_table())


def scores(url: Path | str) -> dict[Any, float]:
    """The scores there, by id."""
    rows = read(url).select(["id", "score"]).to_pylist()
    found = {row["id"]: row["score"] for row in rows}
    assert len(found) == len(rows)
    return found


def counts(content: Content) -> tuple[int, int]:
    assert content.merged is not None
    return content.merged.replaced, content.merged.removed


def needless(url: Path | str) -> set[str]:
    """Files of rows that no version names."""
    if is_iceberg(url):
        kind = "iceberg-s3" if "s3://" in str(url) else "iceberg"
        return {each for each in iceberg_left_over(kind, str(url)) if each.endswith(".parquet")}
    storage = Storage(str(url))
    log, publisher = DeltaLog(storage), publisher_to(url)
    named = log.paths(None)
    for each in publisher.versions():
        named |= log.paths(version_of(each))
    if storage.url.startswith("/"):
        paths = Path(url).glob("runs/**/*.parquet")
        return {each.relative_to(url).as_posix() for each in paths} - named
    return {each.name for each in ObjectStore(storage).listed("runs")} - named
