"""One snapshot of an Iceberg table, found by its catalog."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyspark.sql.pandas.types import from_arrow_type
from pyspark.sql.types import ArrayType, DataType, MapType, StructField, StructType

from kvspark.config.table.input_table import InputConfig
from kvspark.errors import DataError, SchemaError, UsageError
from kvspark.spark.columns.missing_column import missing_column
from kvspark.spark.sources.by_workers.changed_files import (
    ReadFiles,
    pinned_changes,
    reading_last,
    refuse_missing,
    refuse_other_columns,
)
from kvspark.spark.sources.by_workers.pinned_table import PinnedTable, TableColumns
from kvspark.spark.sources.by_workers.worker_table import FIELD_ID
from kvspark.spark.tables.footers import Footer, read_footers
from kvspark.table.iceberg.target import IcebergTarget
from kvspark.table.input.fields import id_of, places_of
from kvspark.table.input.growth import Growth, added_files, number_of, part_of
from kvspark.table.input.table_file import ListedFile, TableFile
from kvspark.table.merge.changes import ChangedFile, net_files

if TYPE_CHECKING:
    from kvspark.table.iceberg.reading.iceberg_input import IcebergInput


def find_iceberg(
    config: InputConfig, *, columns: Sequence[str], growth: Growth | None = None
) -> PinnedTable:
    """The Iceberg table that `config` names, as of the snapshot that it names; `columns` are those that the model takes.

    With `growth`, the rows that are new in it.

    Raises:
        DataError: there is no table, no such snapshot, a file of it is gone, or it asks for more than is read here.
        SchemaError: a column is missing.
        UsageError: the path names no table, or the client is not installed.
    """
    url = config.paths[0]
    found = _read(config, None if growth is None else growth.until)
    part = part_of(found.identity, config.filter, config.partitions)
    if growth is not None:
        growth.check_part(part, url)
    since = None if growth is None else growth.since
    by = () if growth is None or since is None else growth.merge_by
    for name in columns:
        if name not in found.columns.names:
            raise SchemaError(
                f"input: {missing_column(name, found.columns.names)} (table: {url}); nothing was written"
            )
    shown, stored = _struct(found.columns, has_ids=False), _struct(found.columns, has_ids=True)
    refuse_missing(by, shown, url)
    listed = _listed(found, config, since, is_merged=bool(by))
    read = _read_files(listed, found, url, counted=columns)
    if by:
        ids = pa.schema([found.columns.field(name) for name in by])
        read = read.of_changes(listed, ids, by, url)
    version = "no snapshot" if found.snapshot is None else f"snapshot {found.snapshot}"
    return PinnedTable(version, TableColumns(shown, stored), read, part=part, since=since)


def _listed(
    found: IcebergInput, config: InputConfig, since: str | None, *, is_merged: bool
) -> list[ChangedFile]:
    """The files of the table, or those that say what is new in it `since`."""
    if since is None:
        return [ChangedFile(file, "came") for file in found.files]
    with reading_last(since, config.paths[0]):
        before = _read(config, since)
    now, then = ({field.name: id_of(field) for field in each.columns} for each in (found, before))
    refuse_other_columns(now, then, since, config.paths[0])
    if is_merged:
        names = {number: name for name, number in now.items()}
        return net_files(found.files, [_called(file, then, names) for file in before.files])
    added = added_files(found.files, before.files, since, config.paths[0])
    return [ChangedFile(file, "came") for file in added]


def _called(
    file: ListedFile, ids: Mapping[str, bytes | None], names: Mapping[bytes | None, str]
) -> ListedFile:
    """`file` with the values of its partition under the `names` that its columns, called as in `ids` then, have now."""
    values = {names[ids[n]]: value for n, value in file.values.items() if ids[n] in names}
    return replace(file, values=values)


def _read_files(
    listed: Sequence[ChangedFile], found: IcebergInput, url: str, *, counted: Sequence[str]
) -> ReadFiles:
    pinned = pinned_changes(listed, found.options, url)
    footers = read_footers(pinned, counted=counted)
    if not found.has_names:
        _refuse_without_ids(footers, url)
    files = [
        TableFile(place, _missing(file.listed.values, footer, found.columns), file.listed.deleted)
        for place, file, footer in zip(pinned, listed, footers, strict=True)
    ]
    return ReadFiles(files, [_of_the_table(footer, found.columns) for footer in footers])


def _read(config: InputConfig, version: str | None) -> IcebergInput:
    """The table as `config` says it, or as of `version` in the words of a report."""
    target = IcebergTarget(config.paths[0], dict(config.catalog))
    try:
        from kvspark.table.iceberg.reading.iceberg_input import iceberg_input
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] not in {"pyiceberg", "sqlalchemy"}:
            raise
        raise UsageError(
            f"{target.url} needs a client of Iceberg, which is not installed; pip install 'kvspark[iceberg]'"
        ) from None
    if version is None:
        return iceberg_input(target, config.storage, snapshot=config.snapshot, branch=config.branch)
    snapshot = number_of(version, "snapshot", target.url)
    found = iceberg_input(target, config.storage, snapshot=snapshot)
    return found if snapshot is not None else replace(found, snapshot=None, files=())


def _missing(values: Mapping[str, Any], footer: Footer, columns: pa.Schema) -> dict[str, Any]:
    """Those of `values` whose columns the file has not."""
    wanted = [columns.field(name) for name in values]
    places = places_of(wanted, footer.arrow)
    pairs = zip(values.items(), places, strict=True)
    return {name: value for (name, value), place in pairs if place is None}


def _refuse_without_ids(footers: Sequence[Footer], url: str) -> None:
    for footer in footers:
        if not any(id_of(field) for field in footer.arrow):
            raise DataError(
                f"input file {footer.name} of {url} has no ids of fields, and the table does not say which columns it has "
                "(schema.name-mapping.default); nothing was written, rewrite the table's files"
            )


def _of_the_table(footer: Footer, columns: pa.Schema) -> Footer:
    """`footer` with the nulls of those columns alone that are called in the file as in the table, by their ids."""
    known = {}
    for name, nulls in footer.nulls.items():
        place = footer.arrow.get_field_index(name)
        same = place >= 0 and id_of(footer.arrow.field(place)) in (None, id_of(columns.field(name)))
        known[name] = nulls if same else None
    return replace(footer, nulls=known)


def _struct(fields: pa.Schema | pa.StructType, *, has_ids: bool) -> StructType:
    made = []
    for field in fields:
        notes = {FIELD_ID: (id_of(field) or b"").decode()} if has_ids else {}
        made.append(StructField(field.name, _kind(field.type, has_ids=has_ids), metadata=notes))
    return StructType(made)


def _kind(kind: pa.DataType, *, has_ids: bool) -> DataType:
    if pa.types.is_struct(kind):
        return _struct(kind, has_ids=has_ids)
    if pa.types.is_map(kind):
        key = _kind(kind.key_type, has_ids=has_ids)
        return MapType(key, _kind(kind.item_type, has_ids=has_ids))
    if pa.types.is_list(kind):
        return ArrayType(_kind(kind.value_type, has_ids=has_ids))
    return from_arrow_type(kind, prefer_timestamp_ntz=True)
