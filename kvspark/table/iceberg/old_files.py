"""The files of an Iceberg table with what its manifests say of their columns."""

from __future__ import annotations

import re
import struct
from contextlib import suppress
from typing import Any

from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import DataFile, ManifestContent
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import DateType, IcebergType, IntegerType, LongType, StringType

from kvspark.errors import OutputError
from kvspark.table.iceberg.leftovers import files_of
from kvspark.table.merge.merging import OldFile

_FILE = re.compile("^file:(?://)?(?=/)")


def old_files(table: Table, url: str) -> list[OldFile]:
    """All files that readers of `table` find.

    Raises:
        OutputError: rows of it are marked as deleted, or a file has other partitions than the table now.
    """
    snapshot = table.metadata.current_snapshot()
    if snapshot is None:
        return []
    for manifest in snapshot.manifests(table.io):
        is_alive = manifest.has_added_files() or manifest.has_existing_files()
        if is_alive and manifest.content == ManifestContent.DELETES:
            raise _unfit(url, "rows that are marked as deleted")
    files = [*files_of(snapshot, table.io)]
    if any(file.spec_id != table.metadata.default_spec_id for file in files):
        raise _unfit(url, "files of other partitions than it has now")
    return [_old(file, table) for file in files]


def _old(file: DataFile, table: Table) -> OldFile:
    schema = table.schema()
    values = {}
    for place, field in enumerate(table.spec().fields):
        if isinstance(field.transform, IdentityTransform):
            values[str(schema.find_column_name(field.source_id))] = file.partition[place]
    return OldFile(file.file_path, _FILE.sub("", file.file_path), values, _bounds(file, schema))


def _bounds(file: DataFile, schema: Schema) -> dict[str, tuple[Any, Any]]:
    lows, highs = file.lower_bounds or {}, file.upper_bounds or {}
    return {
        field.name: (
            _value(field.field_type, lows.get(field.field_id)),
            _value(field.field_type, highs.get(field.field_id)),
        )
        for field in schema.fields
    }


def _value(kind: IcebergType, data: bytes | None) -> Any:
    """The bound, dates as days since 1970; None where it has none, or is of another type than the column now."""
    if data is None or not isinstance(kind, IntegerType | LongType | StringType | DateType):
        return None
    with suppress(struct.error, ValueError, OverflowError):
        return from_bytes(kind, data)
    return None


def _unfit(url: str, what: str) -> OutputError:
    return OutputError(
        f"{url} has {what}, and a run that replaces single rows would lose track of them; nothing was published, rewrite its "
        "files, or publish all rows with output.mode: replace"
    )
