"""One version of a Delta table as an input: its columns, its files, and which of their rows are deleted.

Source: https://github.com/delta-io/delta/blob/master/PROTOCOL.md
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, final

import numpy as np
import pyarrow as pa

from kvspark.errors import DataError
from kvspark.table.delta.log import client_options
from kvspark.table.delta.snapshot import location_of, telling
from kvspark.table.input.table_file import Deleted, ListedFile
from kvspark.table.objects.storage import Storage

if TYPE_CHECKING:
    from deltalake import DeltaTable

_FEATURES = {
    "columnMapping",
    "deletionVectors",
    "timestampNtz",
    "v2Checkpoint",
    "vacuumProtocolCheck",
}
"""What tables may ask of readers here. Under others, rows are in the files otherwise than their columns say."""

_CUT = "No table metadata or protocol found"
"""What the client says of a version whose commit is there, and not all that was before it."""
_MAPPING = "delta.columnMapping.mode"


@final
@dataclass(frozen=True, slots=True)
class DeltaInput:
    """The table as of one version."""

    identity: str
    """Of the table: another one at the same place has another."""
    version: int
    schema: str
    """The columns in the JSON that Spark has as well."""
    partition_by: tuple[str, ...]
    files: tuple[ListedFile, ...]


def delta_input(
    storage: Storage, *, version: int | None = None, timestamp: datetime | None = None
) -> DeltaInput:
    """The table at `storage` as of `version`, or of the newest one at `timestamp`, or of the newest one.

    Raises:
        DataError: there is no table, no such version, or it asks for what this reader does not do; says what.
        OSError: the log cannot be read.
        UsageError: the client is not installed.
    """
    table = _opened(storage, version, timestamp)
    with telling(storage.url):
        _check(table, storage.url)
        files = _files(table, storage.url)
        metadata = table.metadata()
        partition_by = tuple(metadata.partition_columns)
        identity, schema = str(metadata.id), table.schema().to_json()
        return DeltaInput(identity, table.version(), schema, partition_by, files)


def _opened(storage: Storage, version: int | None, timestamp: datetime | None) -> DeltaTable:
    with telling(storage.url):
        table = _newest(storage)
        if version is not None:
            _go_to(table, version, storage)
        if timestamp is not None:
            _go_back(table, timestamp, storage.url)
    return table


def _newest(storage: Storage) -> DeltaTable:
    from deltalake import DeltaTable
    from deltalake.exceptions import TableNotFoundError

    try:
        return DeltaTable(storage.url, storage_options=client_options(storage))
    except TableNotFoundError:
        raise DataError(
            f"input path {storage.url} is no Delta table: it has no _delta_log; nothing was written, set input.format to "
            "what it is"
        ) from None


def _go_to(table: DeltaTable, version: int, storage: Storage) -> None:
    from deltalake.exceptions import DeltaError

    newest = table.version()
    # Asked for one that is not there yet, the client looks for each that would be before it.
    is_there = version <= newest
    try:
        if is_there:
            table.load_as_version(version)
            return
    except DeltaError as exc:
        # Opened once more: after such an error the client's table knows nothing.
        if version in _times_ms(_newest(storage)) and _CUT not in str(exc):
            raise  # it is there, and cannot be read
    oldest = min(each for each in _times_ms(_newest(storage)) if not is_there or each > version)
    gone = ", older ones have left its log" if is_there else ""
    raise DataError(
        f"input path {storage.url} has no version {version} (there are {oldest} to {newest}{gone}); nothing was written, "
        "check input.version"
    )


def _go_back(table: DeltaTable, timestamp: datetime, url: str) -> None:
    from deltalake.exceptions import DeltaError

    # Of the newest version: an older one counts the same commits otherwise.
    made = _times_ms(table)
    try:
        table.load_as_version(timestamp)
        # The client takes the oldest version where none is old enough.
        is_old_enough = made.get(table.version(), 0) <= timestamp.timestamp() * 1_000
    except DeltaError as exc:
        if _CUT not in str(exc):
            raise
        is_old_enough = False
    if not is_old_enough:
        version, made_ms = min(made.items())
        oldest = datetime.fromtimestamp(made_ms / 1_000, timezone.utc)
        raise DataError(
            f"input path {url} has no version of {timestamp.isoformat(timespec='seconds')} or before: the oldest one in its log, "
            f"{version}, is of {oldest.isoformat(timespec='seconds')}; nothing was written, check input.timestamp"
        )


def _times_ms(table: DeltaTable) -> dict[int, int]:
    """When each version was made of which the log has the commit."""
    return {int(commit["version"]): int(commit["timestamp"]) for commit in table.history()}


def _check(table: DeltaTable, url: str) -> None:
    protocol = table.protocol()
    others = sorted({*(protocol.reader_features or ())} - _FEATURES)
    if others:
        raise DataError(
            f"input path {url}: the table has {', '.join(others)}, which kvspark does not read; nothing was written, read it "
            "with Spark and write its rows to Parquet"
        )
    mode = table.metadata().configuration.get(_MAPPING) or "none"
    if mode not in ("none", "name"):
        raise DataError(
            f"input path {url}: the table finds columns in its files by {mode} ({_MAPPING}), and kvspark by name; nothing "
            "was written, read it with Spark and write its rows to Parquet"
        )


def _files(table: DeltaTable, url: str) -> tuple[ListedFile, ...]:
    deleted = _deleted(table)
    base = table.table_uri.rstrip("/")
    files = []
    actions = pa.table(table.get_add_actions())
    chosen = [name for name in ("path", "partition") if name in actions.column_names]
    for action in _plain(actions.select(chosen), url):
        path = action["path"]
        uri = path if "://" in path else f"{base}/{path}"
        files.append(
            ListedFile(
                location_of(path, url), action.get("partition") or {}, deleted.pop(uri, None)
            )
        )
    if deleted:
        raise DataError(
            f"input path {url}: {len(deleted)} of its files have deleted rows, and are not found among its files; nothing was "
            "written, read it with Spark and write its rows to Parquet"
        )
    return tuple(sorted(files, key=lambda file: file.location))


def _plain(actions: pa.Table, url: str) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = actions.to_pylist()
        return found
    except OverflowError:
        raise DataError(
            f"input path {url} is partitioned by dates of which some are before year 1 or after year 9999, which are not read "
            "here; nothing was written, read it with Spark and write its rows to Parquet"
        ) from None


def _deleted(table: DeltaTable) -> dict[str, Deleted]:
    """The deleted rows of each file that has some, by its URI."""
    if "deletionVectors" not in (table.protocol().reader_features or ()):
        return {}
    found: dict[str, Deleted] = {}
    for batch in table.deletion_vectors():
        rows = pa.record_batch(batch)
        for uri, kept in zip(rows["filepath"].to_pylist(), rows["selection_vector"], strict=True):
            mask = kept.values.to_numpy(zero_copy_only=False)
            found[uri] = Deleted.of(np.flatnonzero(~mask))
    return found
