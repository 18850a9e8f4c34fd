"""A table in an object store or in HDFS: a folder for each version, and a pointer swapped by a conditional write.

    <url>/_kvspark/pointer.json            which version readers find; see `pointer`
    <url>/_kvspark/lock.json               one run at a time; see `object_lock`
    <url>/_runs/<run id>-<token>/          the files of one attempt, in the folders of the table
    <url>/_runs/<run id>-<token>/_kvspark/ files.json, the report, the history, the quarantine

Nothing is renamed, and no listing decides what is in a table. A version of a run that replaces the whole table has all its
files in one folder of `_runs`, a table for whoever reads folders: Spark, DuckDB. One of a run that adds rows or replaces
partitions has files in the folders of earlier runs, too; see `file_list`. `_runs` and `_kvspark` begin with an underscore,
so that a reader of `<url>` itself, who would find the rows of all versions, finds none.

A new attempt writes its name into the pointer before it removes what dead ones left. So an attempt that was only
slow can no longer commit when its files are gone: its write would have to find the pointer as it left it.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import final

import pyarrow as pa

from kvspark.errors import OutputError, RunLockedError
from kvspark.fault import fault_point
from kvspark.table.objects.objects import ObjectChangedError
from kvspark.table.objects.storage import Storage
from kvspark.table.place.opening import open_objects, place_at
from kvspark.table.publish.file_list import LIST_NAME, FileList
from kvspark.table.publish.object_lock import ObjectLock
from kvspark.table.publish.object_sweep import ObjectSweep
from kvspark.table.publish.object_table import NOTES, RUNS, ObjectTable
from kvspark.table.publish.pointer import POINTER_NAME, Pointer, versions_in
from kvspark.table.publish.publisher import Attempt, Content, Published, Publisher, Replaces
from kvspark.table.publish.run_list import RunList
from kvspark.table.publish.table_columns import TableColumns
from kvspark.table.publish.unpublished_runs import UnpublishedObjects, UnpublishedRuns

log = logging.getLogger(__name__)

_WAITS_S = (0.5, 2.0, 5.0)
"""Between tries of the write that commits."""


@final
class ObjectPublisher(Publisher):
    """One prefix of an object store, or one folder of HDFS."""

    def __init__(
        self,
        storage: Storage,
        *,
        owner: str | None = None,
        keep: int = 1,
        overwrite: bool = False,
        replaces: Replaces = "table",
    ) -> None:
        """`owner` is the job's name; any job's table is ours without it. `keep` versions stay restorable."""
        self._storage = storage
        self._store = open_objects(storage)
        self._table = ObjectTable(self._store)
        self._sweep = ObjectSweep(self._store, self._table)
        self._list = RunList(self._table, replaces)
        self._owner = owner
        self._keep = keep
        self._overwrite = overwrite

    @property
    def url(self) -> str:
        return self._storage.url

    def check(self, run_id: str | None = None) -> None:
        try:
            pointer, _ = self._table.read()
            names = () if pointer else (each.name for each in self._store.listed())
            stray = next((name for name in names if not name.startswith(f"{NOTES}/")), None)
            if not self._overwrite:
                self._check_owner(pointer, stray)
            self._list.check(pointer, run_id)
        except OSError as exc:
            raise OutputError(f"{exc}; nothing was written") from exc

    def check_columns(self, schema: pa.Schema, partition_by: Sequence[str], run_id: str) -> None:
        try:
            pointer, _ = self._table.read()
            self._list.check_columns(pointer, TableColumns.of(schema, partition_by), run_id)
        except OSError as exc:
            raise OutputError(f"{exc}; nothing was written") from exc

    def lock(self, run_id: str) -> ObjectLock:
        return ObjectLock(self._store, run_id)

    def prepare(self, run_id: str) -> Attempt:
        name = f"{re.sub(r'[^A-Za-z0-9._-]', '_', run_id).strip('.')[:80]}-{secrets.token_hex(4)}"
        place = place_at(self._folder(name))
        try:
            there, tag = self._table.read()
            # Listed first: what is there by now was begun before the fence, and can commit no more.
            found = self._sweep.found()
            pointer = replace(_again(there), owner=self._owner, writer=name)
            fence = self._swap(pointer, tag)
            fault_point("fenced")
            self._sweep.remove(found, there, point="sweeping")
            fault_point("swept")
            place.open()
        except OSError as exc:
            raise OutputError(f"{exc}; nothing was written") from exc
        return Attempt(run_id, name, place, fence)

    def commit(self, attempt: Attempt, content: Content) -> None:
        try:
            there, _ = self._table.read()
            if there is not None and there.current and there.current.attempt == attempt.name:
                return
            if there is None or there.writer != attempt.name:
                raise _overtaken(self.url)
            listed = self._list.made(attempt, content, there)
            self._complete(attempt, content, listed)
            fault_point("synced")
            # Listed before it is published: what is there later may be of a run that begins then.
            found = self._sweep.found()
            pointer = self._point_to(attempt, listed, there)
        except OSError as exc:
            raise OutputError(f"{exc}; nothing was published") from exc
        fault_point("published")
        try:
            self._sweep.remove(found, pointer, point="discarding")
        except OSError as exc:
            log.warning("old versions below %s stay until the next run (%s)", self.url, exc)

    def abort(self, attempt: Attempt) -> None:
        folder = f"{RUNS}/{attempt.name}"
        try:
            pointer, tag = self._table.read()
            if pointer is not None and pointer.writer == attempt.name:
                # A commit whose answer never came must not come true once its files are gone.
                pointer = replace(_again(pointer), writer=None)
                self._store.put_if(POINTER_NAME, pointer.to_bytes(), tag)
            if attempt.name in self._sweep.needed(pointer):
                return  # or a later run has added its rows to those of this one
            place_at(self._folder(attempt.name)).close()
            self._store.delete_folder(folder)
        except (OSError, OutputError) as exc:
            log.warning("%s could not be removed, the next run removes it (%s)", folder, exc)

    def current(self) -> Published | None:
        pointer = self._table.pointer()
        return None if pointer is None else pointer.current

    def versions(self) -> tuple[Published, ...]:
        pointer = self._table.pointer()
        return () if pointer is None else pointer.kept

    def note(self, version: Published, path: str) -> bytes | None:
        try:
            return self._table.note(version, path)
        except OSError as exc:
            raise OutputError(str(exc)) from exc

    def unpublished(self) -> UnpublishedRuns:
        return UnpublishedObjects(self._store)

    def rollback(self, version: Published) -> None:
        try:
            there, tag = self._table.read()
            if there is None or version not in there.kept:
                raise OutputError(
                    f"output path {self.url} keeps no output of {version.run_id}; nothing was changed"
                )
            self._table.check_whole(version)
            kept = [each for each in versions_in(there) if each != version]
            pointer = replace(_again(there), writer=None, current=version, kept=tuple(kept))
            self._swap(pointer, tag)
        except OSError as exc:
            raise OutputError(f"{exc}; the output is as it was") from exc
        fault_point("restored")

    def _check_owner(self, pointer: Pointer | None, stray: str | None) -> None:
        owner = None if pointer is None else pointer.owner
        if None not in (self._owner, owner) and owner != self._owner:
            raise OutputError(
                f"output path {self.url} has the output of another job (run.name {owner}); nothing was published, name "
                "another path, or set output.overwrite: true and that output is a kept version"
            )
        if stray is not None:
            raise OutputError(
                f"output path {self.url} has objects that no run wrote ({stray}); nothing was published, name another "
                "path, or set output.overwrite: true and they stay beside the new output"
            )

    def _complete(self, attempt: Attempt, content: Content, listed: FileList) -> None:
        """Leaves in the attempt's folder what its version has of it, which nobody finds yet."""
        folder = f"{RUNS}/{attempt.name}"
        self._table.check_files(attempt.name, content.files)
        fault_point("told")
        # From here on no task can add a file, and what others have added is not read.
        place_at(self._folder(attempt.name)).close()
        fault_point("closed")
        wanted = listed.shares[-1].paths
        there = self._table.sizes(attempt.name)
        self._store.delete([f"{folder}/{name}" for name in there if name not in wanted])
        for name, data in content.notes.items():
            self._store.put(f"{folder}/{name}", data)
        self._store.put(f"{folder}/{LIST_NAME}", listed.to_bytes())
        if not self._list.is_shared:
            self._store.put(f"{folder}/_SUCCESS", b"")

    def _point_to(self, attempt: Attempt, listed: FileList, there: Pointer) -> Pointer:
        """The pointer, once readers find what is `listed`."""
        place = attempt.place.url
        made = Published(
            attempt.name,
            attempt.run_id,
            datetime.now(timezone.utc).isoformat(timespec="seconds"),
            f"{place}/{LIST_NAME}" if self._list.is_shared else place,
            listed.rows,
        )
        kept = tuple(versions_in(there)[: self._keep])
        pointer = replace(_again(there), writer=None, current=made, kept=kept)
        self._swap(pointer, attempt.fence)
        return pointer

    def _swap(self, pointer: Pointer, tag: str | None) -> str:
        """The new tag, once the pointer is `pointer`; it must have had `tag`.

        Raises:
            RunLockedError: another attempt was first.
        """
        for wait_s in (*_WAITS_S, None):
            try:
                return self._store.put_if(POINTER_NAME, pointer.to_bytes(), tag)
            except OSError as exc:
                # The write may have come through, and only its answer was lost.
                try:
                    there, its_tag = self._table.read()
                except OSError:
                    if wait_s is None:
                        raise self._unknown(exc) from exc
                    time.sleep(wait_s)
                    continue
                if there is not None and its_tag and there.mark == pointer.mark:
                    return its_tag
                if its_tag != tag:
                    raise _overtaken(self.url) from exc
                if wait_s is None or isinstance(exc, PermissionError | ObjectChangedError):
                    raise
            time.sleep(wait_s)
        raise AssertionError

    def _unknown(self, exc: OSError) -> OutputError:
        return OutputError(
            f"{exc}; it is not known whether that was written, look with kvspark report {self.url} before the run is started "
            "again"
        )

    def _folder(self, attempt: str) -> Storage:
        return self._storage.below(f"{RUNS}/{attempt}")


def _again(pointer: Pointer | None) -> Pointer:
    """`pointer` for another write."""
    made = Pointer()
    return made if pointer is None else replace(pointer, mark=made.mark)


def _overtaken(url: str) -> RunLockedError:
    return RunLockedError(
        f"output path {url}: another run has begun since, and may publish; this one published nothing"
    )
