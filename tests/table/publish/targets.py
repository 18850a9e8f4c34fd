"""Every kind of target, for one suite of tests; and a run that may be killed on the way."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds

from kvspark.spark.writing.posix_publisher import PosixPublisher
from kvspark.table.delta.delta_publisher import DeltaPublisher
from kvspark.table.file_written import FileWritten
from kvspark.table.iceberg.opening import iceberg_publisher
from kvspark.table.objects.storage import Storage
from kvspark.table.publish.object_publisher import ObjectPublisher
from kvspark.table.publish.publisher import Attempt, Content, Publisher, Replaces
from kvspark.table.sink import Sink
from kvspark.table.sink_options import SinkOptions
from tests.object_server import LAKE
from tests.spark.publishing import report_of, target_at
from tests.table.publish.cloud_tables import cloud_bytes
from tests.table.publish.hdfs_tables import hdfs_bytes
from tests.table.publish.iceberg_tables import iceberg_at, iceberg_rows
from tests.table.publish.listed_tables import rows_listed

OWNER = "small"
SCHEMA = pa.schema([("content", pa.string()), ("kind", pa.string())])
BY = ("kind",)
KINDS = ("a/b", "ü 100%")
"""Values whose folders are no plain names."""
POSIX_KINDS = ("posix", "delta", "iceberg")
"""Kinds of targets that are folders."""
CLOUDS = ("gcs", "azure")
"""Kinds of targets that are in a double of an object store."""
TASKS = 2
ROWS = 40
"""Of a whole table."""


def publisher_at(
    kind: str,
    url: str,
    *,
    owner: str | None = OWNER,
    keep: int = 1,
    overwrite: bool = False,
    replaces: Replaces = "table",
) -> Publisher:
    """The target `url`. A folder on a disk takes no other `replaces`."""
    if kind == "posix":
        target = target_at(Path(url), owner=owner or OWNER, keep=keep, overwrite=overwrite)
        return PosixPublisher(target)
    if kind.startswith("delta"):
        return DeltaPublisher(
            Storage(url), owner=owner, keep=keep, overwrite=overwrite, replaces=replaces
        )
    if kind.startswith("iceberg"):
        return iceberg_publisher(
            iceberg_at(url), owner=owner, keep=keep, overwrite=overwrite, replaces=replaces
        )
    return ObjectPublisher(
        Storage(url), owner=owner, keep=keep, overwrite=overwrite, replaces=replaces
    )


def batches(content: str) -> Iterator[pa.RecordBatch]:
    """The rows of a task, in two parts."""
    half = ROWS // TASKS // 2
    for _ in range(2):
        kinds = [KINDS[n % 2] for n in range(half)]
        yield pa.record_batch([[content] * half, kinds], schema=SCHEMA)


def written(attempt: Attempt, content: str, task: int, number: int) -> list[FileWritten]:
    """The files of one try of a task."""
    options = SinkOptions(group_rows=5, file_bytes=1)
    name = f"part-{task:05d}-{attempt.name[-8:]}-{number}"
    schema = attempt.file_schema(SCHEMA, BY)
    sink = Sink(attempt.place, name, schema, options, partition_by=BY)
    return [*sink.write(batches(content))]


def write_all(attempt: Attempt, content: str) -> tuple[FileWritten, ...]:
    """The files that count; those of a lost try of each task are beside them."""
    files: list[FileWritten] = []
    for task in range(TASKS):
        written(attempt, "lost", task, 1)
        files += written(attempt, content, task, 2)
    return tuple(files)


def content_of(publisher: Publisher, run_id: str, files: tuple[FileWritten, ...]) -> Content:
    """What run `run_id` publishes."""
    report = report_of(Path(publisher.url), run_id, OWNER).to_json()
    notes = {"_kvspark/run.json": json.dumps(report).encode()}
    return Content(files, SCHEMA, BY, notes)


def run(publisher: Publisher, content: str, run_id: str | None = None) -> None:
    """One run, whose id is what its rows say if none is given."""
    name = run_id or content
    with publisher.lock(name):
        publisher.check(name)
        attempt = publisher.prepare(name)
        files = write_all(attempt, content)
        publisher.commit(attempt, content_of(publisher, name, files))


def rows(kind: str, url: str) -> list[tuple[str, str]]:
    """What a reader finds that knows nothing of kvspark but where the table is; none before the first run."""
    if kind == "posix":
        return _rows(url) if Path(url).exists() else []
    if kind.startswith("delta"):
        return delta_rows(url)
    if kind.startswith("iceberg"):
        return iceberg_rows(url)
    return rows_listed(hdfs_bytes if kind == "hdfs" else cloud_bytes, url)


def delta_rows(url: str) -> list[tuple[str, str]]:
    """What the format's own client finds in a Delta table."""
    from deltalake import DeltaTable

    options = {} if url.startswith("/") else {"allow_http": "true"}
    if not DeltaTable.is_deltatable(url, options):
        return []
    table = DeltaTable(url, storage_options=options).to_pyarrow_table()
    return sorted(zip(*(table[name].to_pylist() for name in ("content", "kind")), strict=True))


def _rows(folder: str) -> list[tuple[str, str]]:
    hive = ds.partitioning(pa.schema([("kind", pa.string())]), flavor="hive")
    table = ds.dataset(folder, format="parquet", partitioning=hive).to_table()
    return sorted(zip(*(table[name].to_pylist() for name in ("content", "kind")), strict=True))


def table_of(content: str) -> list[tuple[str, str]]:
    """The rows of a run that said `content`."""
    half = ROWS // TASKS // 2
    kinds = [KINDS[n % 2] for n in range(half)] * 2 * TASKS
    return sorted((content, kind) for kind in kinds)


def new_url(kind: str, base: str, folder: Path) -> str:
    """A target that nobody has used."""
    if kind == "iceberg-rest":
        return f"{LAKE} n{secrets.token_hex(4)}"
    if kind.startswith("iceberg"):
        where = folder / "warehouse" if kind == "iceberg" else f"{base}/{secrets.token_hex(4)}"
        return f"{folder / 'catalog.db'} {where}"
    is_posix = kind in POSIX_KINDS
    return str(folder / "table") if is_posix else f"{base}/{secrets.token_hex(4)}/table"


def main(kind: str, url: str, what: str, content: str, replaces: Replaces = "table") -> None:
    """A run, or a rollback to the newest version, in this process."""
    publisher = publisher_at(kind, url, replaces=replaces)
    if what == "run":
        run(publisher, content)
        return
    with publisher.lock("rollback"):
        publisher.rollback(publisher.versions()[0])
