"""A Delta table: the log says which files are in it, one commit makes it those of one attempt.

    <url>/_delta_log/        the log; kvspark's commits carry a `Pointer`, see `delta.log`
    <url>/runs/<attempt>/    the files of one attempt, see `files.table_files`

An attempt may commit while the newest pointer in the log names it as the writer, and only as the version that follows
the one in which it saw that. A new attempt makes itself the writer by a commit of its own before it removes what dead
ones left. Where there is no table yet, there is no log to say so: then nothing is removed before the first commit, of
which there can be one only.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import final

import pyarrow as pa

from kvspark.errors import OutputError
from kvspark.fault import fault_point
from kvspark.table.delta.columns import check_table, columns_for
from kvspark.table.delta.log import MISREAD, DeltaLog
from kvspark.table.delta.old_files import old_files
from kvspark.table.delta.partition_values import partition_values
from kvspark.table.delta.run_commit import RunCommit
from kvspark.table.delta.snapshot import Snapshot
from kvspark.table.delta.versions import DeltaVersions, attempts_in, version_of
from kvspark.table.merge.merging import Merge, NewRows, check_ids, merged_files
from kvspark.table.objects.storage import Storage
from kvspark.table.publish.added_runs import RUNS_NOTE, AddedRuns, attempt_name
from kvspark.table.publish.dead_run import DeadRun
from kvspark.table.publish.file_list import LIST_NAME, FileList, Share
from kvspark.table.publish.files.object_files import ObjectFiles
from kvspark.table.publish.files.posix_files import PosixFiles
from kvspark.table.publish.files.table_files import TableFiles
from kvspark.table.publish.pointer import Pointer
from kvspark.table.publish.publisher import (
    Attempt,
    Content,
    Published,
    Publisher,
    Replaces,
)
from kvspark.table.publish.unpublished_runs import UnpublishedRuns

log = logging.getLogger(__name__)


@final
class DeltaPublisher(Publisher):
    """One Delta table, by the folder or the URL of it."""

    def __init__(
        self,
        storage: Storage,
        *,
        owner: str | None = None,
        keep: int = 1,
        overwrite: bool = False,
        replaces: Replaces = "table",
        merge_by: Sequence[str] = (),
    ) -> None:
        """`owner` is the job's name; any job's table is ours without it. `keep` versions stay restorable.

        `merge_by` are the columns that are the id of a row, where rows are replaced.
        """
        self._storage = storage
        self._files: TableFiles = (
            ObjectFiles(storage) if "://" in storage.url else PosixFiles(Path(storage.url))
        )
        self._log = DeltaLog(storage)
        self._versions = DeltaVersions(self._log, self._files, owner=owner, keep=keep)
        self._owner = owner
        self._application = f"kvspark:{owner or ''}"
        self._overwrite = overwrite
        self._merge_by = merge_by
        self._commit = RunCommit(
            self._log, self._versions, self._files, self._application, replaces
        )
        self._tried = set[str]()

    @property
    def url(self) -> str:
        return self._storage.url

    def check(self, run_id: str | None = None) -> None:
        with _telling("nothing was written"):
            self._check_name()
            there = self._log.read()
            if there is not None:
                check_table(there.columns())
            if there is not None and not self._overwrite:
                self._check_owner(there)
            if there is not None:
                self._commit.check_runs(run_id, there)
                known = [str(each["name"]) for each in there.columns().fields]
                check_ids(self._merge_by, known if there.has_files() else (), self.url)
            elif not self._overwrite and (stray := self._files.stray()) is not None:
                raise OutputError(
                    f"output path {self.url} has files and is no Delta table ({stray}); nothing was published, name another "
                    "path, or set output.overwrite: true and they stay beside the table"
                )

    def check_columns(self, schema: pa.Schema, partition_by: Sequence[str], run_id: str) -> None:
        del run_id
        if pa.null() in schema.types:
            return
        with _telling("nothing was written"):
            there = self._log.read()
            columns = None if there is None else there.columns()
            columns_for(schema, tuple(partition_by), columns)

    def lock(self, run_id: str) -> AbstractContextManager[DeadRun | None]:
        return self._files.lock(run_id)

    def prepare(self, run_id: str) -> Attempt:
        name = attempt_name(run_id)
        fence = ""
        with _telling("nothing was written"):
            self._check_name()
            # Listed first: what is there by now was begun before the fence, and can commit no more.
            listed = self._files.inventory()
            if self._log.read() is not None:
                version, pointer = self._versions.change(
                    lambda there: self._versions.begun(there, name), self._say
                )
                fence = str(version)
                fault_point("fenced")
                self._versions.sweep(listed, pointer, version, point="sweeping")
            fault_point("swept")
            place = self._files.open(name)
        return Attempt(run_id, name, place, fence)

    def commit(self, attempt: Attempt, content: Content) -> None:
        with _telling("nothing was published"):
            there = self._log.read()
            if there is not None and attempt.name in attempts_in(there.pointer):
                return
            self._commit.check(attempt, content, there)
            runs = self._commit.runs(attempt, content, there)
            fault_point("told")
            self._complete(attempt, content, runs)
            fault_point("synced")
            listed = self._files.inventory()
            self._tried.add(attempt.name)
            version, pointer = self._commit.publish(attempt, content)
        fault_point("published")
        try:
            self._versions.sweep(listed, pointer, version, point="discarding")
        except OSError as exc:
            log.warning("old versions below %s stay until the next run (%s)", self.url, exc)

    def merged(self, attempt: Attempt, content: Content, merge: Merge) -> Content:
        with _telling("nothing was published"):
            there = self._log.read()
            self._commit.check(attempt, content, there)
            by = content.partition_by
            for each in content.files:
                partition_values(each.folder, content.schema)  # raises for a date that has no text
            schema = attempt.file_schema(content.schema, by)
            new = NewRows(
                attempt.place, content.files, content.beside, schema, by, self._storage.options
            )
            old = [] if there is None else old_files(there, merge.by)
            made = replace(content, merged=merged_files(merge, new, old))
        fault_point("merged")
        return made

    def abort(self, attempt: Attempt) -> None:
        try:
            pointer = self._pointer()
            if attempt.name in self._tried:
                # A commit whose answer never came must not come true once its files are gone.
                if pointer is None:
                    return
                _, pointer = self._versions.change(
                    lambda there: self._versions.given_up(there, attempt.name), self._say
                )
            if attempt.name not in attempts_in(pointer):
                self._files.remove(attempt.name)
        except (OSError, OutputError) as exc:
            log.warning("%s could not be removed, the next run does it (%s)", attempt.name, exc)

    def current(self) -> Published | None:
        pointer = self._pointer()
        return None if pointer is None else pointer.current

    def versions(self) -> tuple[Published, ...]:
        pointer = self._pointer()
        return () if pointer is None else pointer.kept

    def note(self, version: Published, name: str) -> bytes | None:
        """A small file of `version`, `_kvspark/run.json` say; None if it has none."""
        with _telling("nothing was changed"):
            return self._files.note(version.attempt, name)

    def check_schema(self, content: Content) -> None:
        """Does nothing if the table can have the columns of `content`.

        Raises:
            OutputError: it cannot.
        """
        with _telling("nothing was published"):
            self._commit.columns(content, self._log.read())

    def unpublished(self) -> UnpublishedRuns:
        return self._files.unpublished()

    def rollback(self, version: Published) -> None:
        with _telling("the output is as it was"):
            self._versions.change(
                lambda there: self._versions.restored(there, version),
                lambda there, pointer: self._restore(there, version, pointer),
            )
        fault_point("restored")

    def _check_name(self) -> None:
        sign = MISREAD.search(self.url)
        if sign is not None:
            raise OutputError(
                f"output path {self.url} has a {sign.group()} in it, which the client of Delta Lake takes for a part of a URL; "
                "nothing was written, name another path"
            )

    def _check_owner(self, there: Snapshot) -> None:
        pointer = there.pointer
        owner = None if pointer is None else pointer.owner
        if None not in (self._owner, owner) and owner != self._owner:
            raise OutputError(
                f"output path {self.url} has the output of another job (run.name {owner}); nothing was published, name "
                "another path, or set output.overwrite: true and that output is a kept version"
            )
        is_ours = there.knows(self._application) if pointer is None else pointer.current is not None
        if not is_ours and there.has_files():
            raise OutputError(
                f"output path {self.url} has a Delta table that no run wrote; nothing was published, name another path, or "
                "set output.overwrite: true and what is in it is a kept version"
            )

    def _complete(self, attempt: Attempt, content: Content, runs: AddedRuns | None) -> None:
        """Leaves of the attempt what the table is to have of it, and all of that."""
        self._files.close(attempt.name)
        fault_point("closed")
        self._files.check(attempt.name, content.all_files)
        wanted = {each.name for each in content.all_files if each.rows} | set(content.beside)
        found = self._files.sizes(attempt.name)
        self._files.delete(attempt.name, [name for name in found if name not in wanted])
        share = Share(attempt.name, attempt.run_id, content.all_files)
        listed = FileList(attempt.name, (share,)).to_bytes()
        notes = {**content.notes, LIST_NAME: listed}
        if runs is not None:
            notes[RUNS_NOTE] = runs.to_bytes()
        self._files.settle(attempt.name, content.beside, notes)
        self._files.sync(attempt.name)

    def _say(self, there: Snapshot | None, pointer: Pointer) -> None:
        if there is None:
            raise OSError(f"{self.url}: the Delta table that was there is gone")
        self._log.say(there, pointer, self._application)

    def _restore(self, there: Snapshot | None, version: Published, pointer: Pointer) -> None:
        if there is not None:  # else nothing is kept, and there is no such pointer
            self._log.restore(there, version_of(version), pointer, self._application)

    def _pointer(self) -> Pointer | None:
        with _telling("nothing was changed"):
            there = self._log.read()
            return None if there is None else there.pointer


@contextmanager
def _telling(became: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise OutputError(f"{exc}; {became}") from exc
