"""One snapshot of an Iceberg table as an input: its columns, its files, and which of their rows are deleted.

Source: https://iceberg.apache.org/spec/
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.schema import Schema, index_by_id
from pyiceberg.table import FileScanTask, Table
from pyiceberg.table.name_mapping import MappedField
from pyiceberg.transforms import IdentityTransform

from kvspark.errors import DataError, OutputError, SecretError
from kvspark.table.iceberg.catalog_table import CatalogTable
from kvspark.table.iceberg.reading.arrow_columns import arrow_columns
from kvspark.table.iceberg.target import IcebergTarget
from kvspark.table.input.pinned_file import PinnedFile
from kvspark.table.input.pinning import pinned_files
from kvspark.table.input.table_file import Deleted, ListedFile

_FILE = re.compile("^file:(?://)?(?=/)")
_SHOWN = 5
_VERSION = 2
"""The newest format in which all that tells rows apart is read here."""


@final
@dataclass(frozen=True, slots=True)
class IcebergInput:
    """The table as of one snapshot."""

    identity: str
    """Of the table: another one of the same name has another."""
    snapshot: int | None
    """None for a table that has none yet, and so no rows."""
    columns: pa.Schema
    """With the ids of fields."""
    files: tuple[ListedFile, ...]
    options: Mapping[str, str]
    """Settings of the object store of the files."""
    has_names: bool
    """True if the table says that the names in files without ids are those of its columns."""


def iceberg_input(
    target: IcebergTarget,
    options: Mapping[str, str],
    *,
    snapshot: int | None = None,
    branch: str | None = None,
) -> IcebergInput:
    """The table `target` as of `snapshot`, or of the newest one of `branch`, or of the newest one.

    `options` are settings of the object store of its files, beside those of the catalog.

    Raises:
        DataError: there is no table, no such snapshot, or it asks for what this reader does not do; says what.
        SecretError: an object store refuses the credentials.
    """
    try:
        catalog = CatalogTable(target)
        table = catalog.load()
    except OutputError as exc:
        raise DataError(f"input {exc}") from None
    if table is None:
        raise DataError(f"input {target.url}: the catalog has no such table; nothing was written")
    _check_version(table, target.url)
    chosen = _chosen(table, snapshot, branch, target.url)
    schema = table.schema()
    if snapshot is not None:
        found = table.snapshot_by_id(snapshot)
        number = None if found is None else found.schema_id
        schema = table.schemas().get(number, schema) if number is not None else schema
    try:
        with catalog.telling("nothing was written"):
            tasks = [] if chosen is None else [*table.scan(snapshot_id=chosen).plan_files()]
    except OutputError as exc:
        raise DataError(f"input {exc}") from None
    known = {**catalog.options(table.location()), **options}
    files = _files(table, schema, tasks, known, target.url)
    columns = arrow_columns(schema, target.url)
    identity = str(table.metadata.table_uuid)
    return IcebergInput(identity, chosen, columns, files, known, _has_names(table, schema))


def _check_version(table: Table, url: str) -> None:
    if table.format_version > _VERSION:
        raise DataError(
            f"input {url} is of format version {table.format_version}, and up to {_VERSION} is read here; nothing was written, "
            "read it with Spark and write its rows to Parquet"
        )


def _chosen(table: Table, snapshot: int | None, branch: str | None, url: str) -> int | None:
    if snapshot is not None:
        if table.snapshot_by_id(snapshot) is None:
            raise DataError(
                f"input {url} has no snapshot {snapshot} (there are: {_snapshots(table)}); nothing was written, check "
                "input.snapshot"
            )
        return snapshot
    if branch is not None:
        found = table.refs().get(branch)
        if found is None:
            names = ", ".join(sorted(table.refs())) or "none"
            raise DataError(
                f"input {url} has no branch or tag {branch!r} (there are: {names}); nothing was written"
            )
        return found.snapshot_id
    current = table.current_snapshot()
    return None if current is None else current.snapshot_id


def _snapshots(table: Table) -> str:
    """The newest ones, the last first, and when they were made."""
    newest = sorted(table.snapshots(), key=lambda each: -each.timestamp_ms)
    shown = [
        f"{each.snapshot_id} of {datetime.fromtimestamp(each.timestamp_ms / 1_000, timezone.utc):%Y-%m-%dT%H:%M:%SZ}"
        for each in newest[:_SHOWN]
    ]
    more = len(newest) - len(shown)
    return ", ".join([*shown, *([f"{more} older"] if more else [])]) or "none"


def _files(
    table: Table,
    schema: Schema,
    tasks: Sequence[FileScanTask],
    options: Mapping[str, str],
    url: str,
) -> tuple[ListedFile, ...]:
    tasks = sorted(tasks, key=lambda task: task.file.file_path)
    _check_formats([task.file for task in tasks], url)
    deletes = {each.file_path: each for task in tasks for each in task.delete_files}
    gone = _gone(list(deletes.values()), options, url)
    return tuple(
        ListedFile(
            _location(task.file.file_path),
            _values(table, schema, task.file),
            _deleted(task, gone),
        )
        for task in tasks
    )


def _check_formats(files: Iterable[DataFile], url: str) -> None:
    for file in files:
        if file.file_format != FileFormat.PARQUET:
            raise DataError(
                f"input {url}: {file.file_path} is {file.file_format.name}, and Parquet is read here; nothing was written, "
                "rewrite the table's files"
            )


def _gone(
    files: Sequence[DataFile], options: Mapping[str, str], url: str
) -> Mapping[str, pa.Table]:
    """The rows that each of these files says are deleted."""
    for file in files:
        if file.content != DataFileContent.POSITION_DELETES:
            raise DataError(
                f"input {url} has rows that are deleted by their values, which is not read here; nothing was written, rewrite "
                "the table's files"
            )
    _check_formats(files, url)
    pinned = pinned_files([_location(file.file_path) for file in files], options)
    return {file.file_path: _places(place, url) for file, place in zip(files, pinned, strict=True)}


def _places(file: PinnedFile, url: str) -> pa.Table:
    try:
        return pq.read_table(file.open(), columns=["file_path", "pos"])
    except PermissionError as exc:
        raise SecretError(f"input: {exc}; nothing was written") from None
    except (OSError, pa.ArrowException):
        raise DataError(
            f"input {url}: {file.name}, which says what is deleted, cannot be read; nothing was written, read a snapshot "
            "whose files are whole"
        ) from None


def _deleted(task: FileScanTask, gone: Mapping[str, pa.Table]) -> Deleted | None:
    places = [np.empty(0, np.int64)]
    for file in task.delete_files:
        rows = gone[file.file_path]
        mine = rows.filter(pc.equal(rows["file_path"], task.file.file_path))
        places.append(mine["pos"].to_numpy())
    made = Deleted.of(np.concatenate(places))
    return made if made.count else None


def _values(table: Table, schema: Schema, file: DataFile) -> dict[str, Any]:
    """By the spec under which the file was written, which need not be today's."""
    values = {}
    for place, field in enumerate(table.specs()[file.spec_id].fields):
        name = schema.find_column_name(field.source_id)
        if isinstance(field.transform, IdentityTransform) and name in schema.column_names:
            values[str(name)] = file.partition[place]
    return values


def _has_names(table: Table, schema: Schema) -> bool:
    mapping = table.name_mapping()
    if mapping is None:
        return False
    names = dict(_names(mapping.root))
    return all(names.get(number) == [field.name] for number, field in index_by_id(schema).items())


def _names(fields: Iterable[MappedField]) -> Iterator[tuple[int | None, list[str]]]:
    for field in fields:
        yield field.field_id, list(field.names)
        yield from _names(field.fields)


def _location(path: str) -> str:
    return _FILE.sub("", path)
