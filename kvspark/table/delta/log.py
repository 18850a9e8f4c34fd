"""The log of a Delta table, by delta-rs.

Each commit of kvspark carries a `Pointer`: which version is current, which are kept, which attempt may commit. It is
made for one version of the log and no other: the client may not move it behind the commit of another writer, as it
would. So the log itself is what attempts are told apart by.

Source: https://github.com/delta-io/delta/blob/master/PROTOCOL.md
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, final

from kvspark.table.delta.actions import (
    AddedFile,
    TableFile,
    added,
    afterwards,
    removed,
    said,
    schema_of,
)
from kvspark.table.delta.snapshot import Snapshot, pointer_in, telling
from kvspark.table.objects.storage import Storage
from kvspark.table.publish.pointer import Pointer

MISREAD = re.compile(r"[#?%|^\\\[\]]")
"""Signs in the path or URL of a table for which the client looks elsewhere, finds no history, or stops."""

_CHECKPOINT_EVERY = "10"
"""Versions of a new table, as Spark has it; the client, by itself, lets readers read 100."""

_REQUESTS = {"max_retries": "5", "retry_timeout": "60s", "timeout": "30s", "allow_http": "true"}
"""Of a client of object stores, as `object_store` has it: its own tries take minutes. Plain HTTP is only used where an
endpoint says `http:`, as those in a private network do."""


def client_options(storage: Storage) -> dict[str, str]:
    """What the client is told of the place of a table."""
    return {**storage.options, **(_REQUESTS if "://" in storage.url else {})}


@final
class DeltaLog:
    """The log of the table at one URL.

    Every method raises OSError where the log cannot be read or written; its text is one line and holds no secret.
    """

    def __init__(self, storage: Storage) -> None:
        self._folder = None if "://" in storage.url else Path(storage.url)
        self._url = storage.url
        self._options = client_options(storage)

    def read(self) -> Snapshot | None:
        """The newest version; None if there is no table."""
        with telling(self._url):
            from deltalake import DeltaTable
            from deltalake.exceptions import TableNotFoundError

            # Not `is_deltatable`: it holds Python's lock while it waits, and no other thread renews a lease.
            try:
                table = DeltaTable(self._url, storage_options=self._options)
            except TableNotFoundError:
                return None
            return Snapshot(table.version(), pointer_in(table, self._url), table, self._url)

    def paths(self, version: int | None) -> set[str]:
        """The files of `version`, of the newest one for None, by their paths in the table."""
        with telling(self._url):
            from deltalake import DeltaTable

            table = DeltaTable(self._url, version=version, storage_options=self._options)
            return set(table.get_add_actions()["path"].to_pylist())

    def create(
        self,
        fields: Sequence[Mapping[str, Any]],
        partition_by: Sequence[str],
        files: Sequence[AddedFile],
        pointer: Pointer,
        application: str,
    ) -> None:
        """Makes the table, with `files`, as version 0."""
        with self._committing(0):
            from deltalake.transaction import create_table_with_add_actions

            create_table_with_add_actions(
                self._url,
                schema_of(fields),
                added(files),
                mode="error",
                partition_by=[*partition_by],
                configuration={"delta.checkpointInterval": _CHECKPOINT_EVERY},
                storage_options=self._options,
                commit_properties=said(pointer, application, 0),
                post_commithook_properties=afterwards(),
            )

    def replace(
        self,
        there: Snapshot,
        fields: Sequence[Mapping[str, Any]],
        files: Sequence[AddedFile],
        pointer: Pointer,
        application: str,
    ) -> None:
        """Makes `files` all that there is in the table, and `fields` its columns."""
        with self._committing(there.version + 1):
            there.table.create_write_transaction(
                [*added(files)],
                "overwrite",
                schema_of(fields),
                partition_by=[*there.table.metadata().partition_columns],
                commit_properties=said(pointer, application, there.version + 1),
                post_commithook_properties=afterwards(),
            )

    def exchange(
        self,
        there: Snapshot,
        files: Sequence[AddedFile],
        gone: Sequence[TableFile],
        pointer: Pointer,
        application: str,
    ) -> None:
        """Adds `files` and takes out `gone`; the table keeps all others.

        Raises:
            OutputError: a file there cannot be taken out alone.
        """
        table = there.table
        with self._committing(there.version + 1):
            # As an append that also removes: of an overwrite, a filter names the partitions, and can name too many.
            table.create_write_transaction(
                [*added(files), *(removed(table, gone) if gone else ())],
                "append",
                table.schema(),
                partition_by=[*table.metadata().partition_columns],
                commit_properties=said(pointer, application, there.version + 1, is_append=not gone),
                post_commithook_properties=afterwards(),
            )

    def add_columns(
        self,
        there: Snapshot,
        fields: Sequence[Mapping[str, Any]],
        pointer: Pointer,
        application: str,
    ) -> None:
        """Adds columns, which are null in all rows."""
        with self._committing(there.version + 1):
            there.table.alter.add_columns(
                [*schema_of(fields).fields],
                commit_properties=said(pointer, application, there.version + 1),
                post_commithook_properties=afterwards(),
            )

    def say(self, there: Snapshot, pointer: Pointer, application: str) -> None:
        """A commit that changes nothing but the pointer."""
        with self._committing(there.version + 1):
            there.table.create_write_transaction(
                [],
                "append",
                there.table.schema(),
                partition_by=[*there.table.metadata().partition_columns],
                commit_properties=said(pointer, application, there.version + 1),
                post_commithook_properties=afterwards(),
            )

    def restore(self, there: Snapshot, version: int, pointer: Pointer, application: str) -> None:
        """Makes the table what it was as of `version`. Its files must all be there."""
        with self._committing(there.version + 1):
            there.table.restore(
                version,
                commit_properties=said(pointer, application, there.version + 1),
                post_commithook_properties=afterwards(),
            )

    @contextmanager
    def _committing(self, version: int) -> Iterator[None]:
        with telling(self._url):
            yield
        if self._folder is not None:
            # The client leaves that to the system, and readers after a power cut find what is on disk.
            _sync(self._folder / "_delta_log" / f"{version:020d}.json")
            _sync(self._folder / "_delta_log")


def _sync(path: Path) -> None:
    with suppress(FileNotFoundError):  # a checkpoint may have taken its place
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
