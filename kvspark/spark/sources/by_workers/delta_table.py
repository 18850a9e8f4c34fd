"""One version of a Delta table, found by its log."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from typing import Any

import pyarrow as pa
from pyspark.sql.pandas.types import to_arrow_type
from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    DataType,
    MapType,
    StructField,
    StructType,
    TimestampType,
)

from kvspark.config.table.input_table import InputConfig, moment
from kvspark.errors import DataError, SchemaError, SecretError, UsageError
from kvspark.spark.columns.missing_column import missing_column
from kvspark.spark.sources.by_workers.changed_files import (
    ReadFiles,
    pinned_changes,
    reading_last,
    refuse_missing,
    refuse_other_columns,
)
from kvspark.spark.sources.by_workers.pinned_table import PinnedTable, TableColumns
from kvspark.spark.tables.folder_names import partition_value
from kvspark.spark.tables.footers import read_footers
from kvspark.spark.tables.paths import local_path
from kvspark.table.delta.log import MISREAD
from kvspark.table.delta.reading.change_data import change_data
from kvspark.table.delta.reading.delta_input import DeltaInput, delta_input
from kvspark.table.input.growth import Growth, added_files, number_of, part_of
from kvspark.table.input.table_file import ListedFile, TableFile
from kvspark.table.merge.changes import ChangedFile, net_files
from kvspark.table.objects.storage import Storage, bucket_of, is_object

_PHYSICAL = "delta.columnMapping.physicalName"


def find_delta(
    config: InputConfig, *, columns: Sequence[str], growth: Growth | None = None
) -> PinnedTable:
    """The Delta table that `config` names, as of the version that it names; `columns` are those that the model takes.

    With `growth`, the rows that are new in it.

    Raises:
        DataError: there is no table, no such version, a file of it is gone, or it asks for more than is read here.
        SchemaError: a column is missing.
        UsageError: the path names no table that can be read, or the client is not installed.
    """
    storage = _storage(config)
    found = _read(storage, config, growth)
    part = part_of(found.identity, config.filter, config.partitions)
    if growth is not None:
        growth.check_part(part, storage.url)
    since = None if growth is None else growth.since
    by = () if growth is None or since is None else growth.merge_by
    named = _columns(found)
    _check(named.shown, found, storage.url, columns)
    _check_partitions(config.partitions, found, storage.url)
    refuse_missing(by, named.shown, storage.url)
    listed = [
        file
        for file in _listed(found, storage, since, named, by)
        if _is_in(file.listed, config.partitions)
    ]
    read = _read_files(listed, named, storage.url, config, counted=columns)
    if by:
        read = read.of_changes(listed, _ids(by, named), by, storage.url)
    version = f"version {found.version}"
    return PinnedTable(version, named, read, part=part, since=since)


def _listed(
    found: DeltaInput, storage: Storage, since: str | None, named: TableColumns, by: Sequence[str]
) -> list[ChangedFile]:
    """The files of the table, or those that say what is new in it `since`."""
    number = None if since is None else number_of(since, "version", storage.url)
    if since is None or number is None:
        return [ChangedFile(file, "came") for file in found.files]
    if by and named.shown == named.stored:
        kinds = {field.name: to_arrow_type(field.dataType) for field in named.shown.fields}
        partitions = pa.schema([(name, kinds[name]) for name in found.partition_by])
        with _refusals():
            said = change_data(storage, number, found.version, partitions)
        if said is not None:
            return said
    with reading_last(since, storage.url):
        before = _at(storage, number)
    refuse_other_columns(
        _told_apart(named, by), _told_apart(_columns(before), by), since, storage.url
    )
    if not by:
        added = added_files(found.files, before.files, since, storage.url)
        return [ChangedFile(file, "came") for file in added]
    if before.partition_by != found.partition_by:
        raise DataError(
            f"input {storage.url}: since {since}, which the last run read, it was partitioned otherwise; nothing was written, run "
            "once without input.changed_since and with output.mode: replace"
        )
    return net_files(found.files, before.files)


def _read_files(
    listed: Sequence[ChangedFile],
    named: TableColumns,
    url: str,
    config: InputConfig,
    *,
    counted: Sequence[str],
) -> ReadFiles:
    pinned = pinned_changes(listed, config.storage, url)
    stored = dict(zip(named.shown.names, named.stored.names, strict=True))
    files = []
    for file, each in zip(pinned, listed, strict=True):
        values = {stored[name]: value for name, value in each.listed.values.items()}
        files.append(TableFile(file, values, each.listed.deleted))
    inside = {stored[name] for name in counted} - {n for each in files for n in each.values}
    return ReadFiles(files, read_footers(pinned, counted=sorted(inside)))


def _told_apart(named: TableColumns, by: Sequence[str]) -> dict[str, tuple[str, str]]:
    """By the name of each column, what it is called in files; and of those of ids `by` their type."""
    pairs = zip(named.shown.fields, named.stored.names, strict=True)
    return {
        shown.name: (stored, shown.dataType.simpleString() if shown.name in by else "")
        for shown, stored in pairs
    }


def _ids(by: Sequence[str], named: TableColumns) -> pa.Schema:
    """The columns `by`, as files have them."""
    pairs = zip(named.shown.fields, named.stored.fields, strict=True)
    stored = {shown.name: field for shown, field in pairs}
    return pa.schema([(stored[n].name, to_arrow_type(stored[n].dataType)) for n in by])


def _read(storage: Storage, config: InputConfig, growth: Growth | None) -> DeltaInput:
    version = config.version
    if growth is not None and growth.until is not None:
        version = number_of(growth.until, "version", storage.url)
    at = None if config.timestamp is None else moment(config.timestamp)
    return _at(storage, version, at)


def _at(storage: Storage, version: int | None, timestamp: datetime | None = None) -> DeltaInput:
    with _refusals():
        return delta_input(storage, version=version, timestamp=timestamp)


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except PermissionError as exc:
        raise SecretError(f"input: {exc}; nothing was written") from None
    except OSError as exc:
        raise DataError(f"input: {exc}; nothing was written") from None


def _storage(config: InputConfig) -> Storage:
    (path,) = config.paths
    if is_object(path):
        try:
            bucket, key = bucket_of(path, config.storage)
        except ValueError:
            raise UsageError(
                f"input path {path} names no bucket; write SCHEME://BUCKET/TABLE"
            ) from None
        storage = bucket.below(key) if key else bucket
    else:
        storage = Storage(str(local_path(path, what="input path")))
    sign = MISREAD.search(storage.url)
    if sign is not None:
        raise UsageError(
            f"input path {storage.url} has a {sign.group()} in it, which the client of Delta Lake takes for a part of a URL; "
            "nothing was written, move the table"
        )
    return storage


def _columns(found: DeltaInput) -> TableColumns:
    schema = StructType.fromJson(json.loads(found.schema))
    return TableColumns(_renamed(schema, is_stored=False), _renamed(schema, is_stored=True))


def _renamed(schema: StructType, *, is_stored: bool) -> StructType:
    """`schema` with the names of files, or its own, and without what only Delta's log needs."""
    fields = []
    for field in schema.fields:
        name = str(field.metadata.get(_PHYSICAL, field.name)) if is_stored else field.name
        notes = {
            key: value for key, value in field.metadata.items() if not key.startswith("delta.")
        }
        kind = _renamed_inside(field.dataType, is_stored=is_stored)
        fields.append(StructField(name, kind, nullable=True, metadata=notes))
    return StructType(fields)


def _renamed_inside(kind: DataType, *, is_stored: bool) -> DataType:
    if isinstance(kind, StructType):
        return _renamed(kind, is_stored=is_stored)
    if isinstance(kind, ArrayType):
        return ArrayType(_renamed_inside(kind.elementType, is_stored=is_stored))
    if isinstance(kind, MapType):
        key = _renamed_inside(kind.keyType, is_stored=is_stored)
        return MapType(key, _renamed_inside(kind.valueType, is_stored=is_stored))
    return kind


def _check(schema: StructType, found: DeltaInput, url: str, columns: Sequence[str]) -> None:
    for name in columns:
        if name not in schema.names:
            raise SchemaError(
                f"input: {missing_column(name, schema.names)} (table: {url}); nothing was written"
            )
    for name in found.partition_by:
        # Writers note times in their own zones, and do not say in which.
        if isinstance(schema[name].dataType, TimestampType | BinaryType):
            raise DataError(
                f"input path {url} is partitioned by {name!r} of type {schema[name].dataType.simpleString()}, whose values "
                "cannot be told for certain; nothing was written, read it with Spark and write its rows to Parquet"
            )


def _check_partitions(partitions: Mapping[str, str | None], found: DeltaInput, url: str) -> None:
    for column in partitions:
        if column not in found.partition_by:
            raise SchemaError(
                f"input.partitions names {column!r}, by which {url} is not partitioned (partitioned by: "
                f"{', '.join(found.partition_by) or 'nothing'}); use input.filter for another column"
            )


def _is_in(file: ListedFile, partitions: Mapping[str, str | None]) -> bool:
    return all(
        _text(file.values[name], name) == partition_value(text) for name, text in partitions.items()
    )


def _text(value: Any, name: str) -> str | None:
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return None
    if isinstance(value, str | int | date) and not isinstance(value, datetime):
        return str(value)
    raise UsageError(
        f"input.partitions names {name!r}, whose values have no one text; use input.filter for it"
    )
