"""What a commit to a Delta table says, as delta-rs takes it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, final

from kvspark.errors import OutputError
from kvspark.table.delta.snapshot import KEY
from kvspark.table.publish.pointer import Pointer

if TYPE_CHECKING:
    from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Schema
    from deltalake.transaction import AddAction, RemoveAction

_PLAIN_PATH = re.compile(r"[A-Za-z0-9._=/-]*")


@final
@dataclass(frozen=True, slots=True)
class AddedFile:
    """A file that a commit adds."""

    path: str
    size_bytes: int
    partition_values: Mapping[str, str | None]
    statistics: str


def said(
    pointer: Pointer, application: str, version: int, *, is_append: bool = True
) -> CommitProperties:
    """What goes with the commit that becomes `version`, and no other."""
    from deltalake import CommitProperties, Transaction

    current = pointer.current
    said: dict[str, Any] = {KEY: json.loads(pointer.to_bytes())}
    said["userMetadata"] = f"kvspark: {current.run_id if current else 'no run yet'}"
    if not is_append:
        said["isBlindAppend"] = False
    return CommitProperties(
        custom_metadata=said,
        max_commit_retries=0,
        # The protocol keeps the last of each in the table, also when the commit has left the log.
        app_transactions=[Transaction(each, version) for each in (KEY, application)],
    )


def afterwards() -> PostCommitHookProperties:
    """What the client does after a commit."""
    from deltalake import PostCommitHookProperties

    # Without its log a version cannot be restored, however rare the runs are.
    return PostCommitHookProperties(cleanup_expired_logs=False)


def schema_of(fields: Sequence[Mapping[str, Any]]) -> Schema:
    """The columns `fields`, as the log has them."""
    from deltalake import Schema

    return Schema.from_json(json.dumps({"type": "struct", "fields": [dict(f) for f in fields]}))


def added(files: Sequence[AddedFile]) -> list[AddAction]:
    """What adds `files`."""
    from deltalake.transaction import AddAction

    now = _now_ms()
    return [
        AddAction(
            path=each.path,
            size=each.size_bytes,
            partition_values=each.partition_values,
            modification_time=now,
            data_change=True,
            stats=each.statistics,
        )
        for each in files
    ]


@final
@dataclass(frozen=True, slots=True)
class TableFile:
    """A file that is in the table."""

    path: str
    size_bytes: int
    partition_values: Mapping[str, str | None]
    rows: int
    """0 where the log does not say it."""


def files_in(table: DeltaTable) -> list[TableFile]:
    """All files of the table."""
    found = table.get_add_actions()
    known = set(found.schema.names)

    def column(name: str, default: Any) -> list[Any]:
        """A table without partitions, or statistics, has no such column."""
        return [*found[name].to_pylist()] if name in known else [default] * found.num_rows

    columns = (column("path", ""), column("size_bytes", 0))
    more = (column("partition", {}), column("num_records", 0))
    return [
        TableFile(path, size, {name: _text(value) for name, value in values.items()}, rows or 0)
        for path, size, values, rows in zip(*columns, *more, strict=True)
    ]


def in_partitions_of(files: Sequence[AddedFile], there: Sequence[TableFile]) -> list[TableFile]:
    """Those of `there` that are in the partitions of which `files` are."""
    touched = {_key(each.partition_values) for each in files}
    return [each for each in there if _key(each.partition_values) in touched]


def removed(table: DeltaTable, files: Sequence[TableFile]) -> list[RemoveAction]:
    """What takes out `files`.

    Raises:
        OutputError: a file there cannot be taken out alone.
    """
    from deltalake.transaction import RemoveAction

    check_removable(table, [each.path for each in files])
    return [
        RemoveAction(
            each.path,
            data_change=True,
            deletion_timestamp=_now_ms(),
            size=each.size_bytes,
            partition_values=dict(each.partition_values),
        )
        for each in files
    ]


def _key(values: Mapping[str, str | None]) -> frozenset[tuple[str, str | None]]:
    return frozenset(values.items())


def _text(value: Any) -> str | None:
    """The value of a partition column as the log has it."""
    if isinstance(value, bool):
        return str(value).lower()
    return None if value is None else str(value) or None


def check_removable(table: DeltaTable, paths: Sequence[str]) -> None:
    """Does nothing if an action that only names the files takes them out.

    Raises:
        OutputError: it would not: their rows would stay beside the new ones.
    """
    marked = "deletionVectors" in (table.protocol().writer_features or ())
    if marked and any(batch.num_rows for batch in table.deletion_vectors()):
        raise _in_the_way("rows that are marked as deleted")
    # The client writes other names in its own way, which need not be that of the log.
    if not all(map(_PLAIN_PATH.fullmatch, paths)):
        raise _in_the_way("names with signs in them")


def _in_the_way(what: str) -> OutputError:
    return OutputError(
        f"files that this run would replace have {what}, and could not be taken out one by one; nothing was published, "
        "rewrite these files, or replace the whole table"
    )


def _now_ms() -> int:
    return int(datetime.now(timezone.utc).timestamp() * 1000)
