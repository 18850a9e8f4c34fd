"""Delta tables for tests: made by kvspark, by others, and read from their log without any client."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import duckdb
import pyarrow as pa
from deltalake import DeltaTable

from kvspark.table.delta.delta_publisher import DeltaPublisher
from kvspark.table.file_written import FileWritten
from kvspark.table.objects.storage import Storage
from kvspark.table.publish.publisher import Attempt, Content, Replaces
from kvspark.table.sink import Sink
from kvspark.table.sink_options import SinkOptions

Rows = Mapping[str, Iterable[Any]]


def publisher_to(
    folder: Path | str,
    *,
    replaces: Replaces = "table",
    keep: int = 1,
    overwrite: bool = False,
    owner: str | None = "small",
) -> DeltaPublisher:
    """The Delta table in `folder`."""
    return DeltaPublisher(
        Storage(str(folder)), owner=owner, keep=keep, overwrite=overwrite, replaces=replaces
    )


def write(attempt: Attempt, table: pa.Table, by: tuple[str, ...] = ()) -> tuple[FileWritten, ...]:
    """What one task writes of `table`."""
    name = f"part-00000-{attempt.name[-8:]}"
    options = SinkOptions(group_rows=3, file_bytes=1)
    sink = Sink(attempt.place, name, table.schema, options, partition_by=by)
    return tuple(sink.write(table.to_batches())) or (sink.write_empty(),)


def begun(
    publisher: DeltaPublisher, run_id: str, table: pa.Table, by: tuple[str, ...] = ()
) -> tuple[Attempt, Content]:
    """A run that has all but committed."""
    attempt = publisher.prepare(run_id)
    return attempt, Content(write(attempt, table, by), table.schema, by)


def publish(
    publisher: DeltaPublisher, run_id: str, table: pa.Table, by: tuple[str, ...] = ()
) -> None:
    """A whole run."""
    with publisher.lock(run_id):
        publisher.check()
        attempt, content = begun(publisher, run_id, table, by)
        publisher.commit(attempt, content)


def actions(folder: Path, version: int) -> dict[str, list[dict[str, Any]]]:
    """What the log says in `version`, by kind."""
    text = (folder / "_delta_log" / f"{version:020d}.json").read_text(encoding="utf-8")
    found: dict[str, list[dict[str, Any]]] = {}
    for line in filter(None, text.splitlines()):
        for kind, value in json.loads(line).items():
            found.setdefault(kind, []).append(value)
    return found


def last_version(folder: Path) -> int:
    """The newest in the log."""
    return max(int(each.stem) for each in (folder / "_delta_log").glob("*.json"))


def files_in_log(folder: Path) -> dict[str, dict[str, Any]]:
    """What is in the table by its log alone, which has no checkpoint yet."""
    found: dict[str, dict[str, Any]] = {}
    for version in range(last_version(folder) + 1):
        said = actions(folder, version)
        for each in said.get("remove", ()):
            found.pop(each["path"])
        for each in said.get("add", ()):
            assert each["path"] not in found
            found[each["path"]] = each
    return found


def rows_by_duckdb(folder: Path, column: str) -> list[Any]:
    """All values of a column, of the files that the log names."""
    paths = [str(folder / unquote(each)) for each in files_in_log(folder)]
    query = f"select {column} from read_parquet(?, hive_partitioning = false) order by 1"
    return [row[0] for row in duckdb.execute(query, [paths]).fetchall()]


def ids(folder: Path) -> list[int]:
    """What the client reads, and DuckDB by the log alone."""
    found: list[int] = sorted(DeltaTable(str(folder)).to_pyarrow_table()["id"].to_pylist())
    assert found == rows_by_duckdb(folder, "id")
    return found
