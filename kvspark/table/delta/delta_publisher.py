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
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Literal, final

from kvspark.errors import OutputError, RunLockedError, UsageError
from kvspark.fault import fault_point
from kvspark.table.delta.actions import AddedFile
from kvspark.table.delta.columns import check_table, columns_for
from kvspark.table.delta.log import MISREAD, DeltaLog
from kvspark.table.delta.partition_values import partition_values
from kvspark.table.delta.snapshot import Snapshot
from kvspark.table.delta.statistics import statistics
from kvspark.table.delta.versions import DeltaVersions, again, attempts_in, version_of
from kvspark.table.objects.storage import Storage
from kvspark.table.publish.file_list import LIST_NAME, FileList
from kvspark.table.publish.files.object_files import ObjectFiles
from kvspark.table.publish.files.posix_files import PosixFiles
from kvspark.table.publish.files.table_files import RUNS, TableFiles
from kvspark.table.publish.pointer import Pointer
from kvspark.table.publish.publisher import Attempt, Content, Published, Publisher

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
        replaces: Literal["table", "partitions"] = "table",
    ) -> None:
        """`owner` is the job's name; any job's table is ours without it. `keep` versions stay restorable.

        A run replaces the whole table, or the `partitions` of which it has rows.
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
        self._replaces, self._tried = replaces, set[str]()

    @property
    def url(self) -> str:
        return self._storage.url

    def check(self) -> None:
        with _telling("nothing was written"):
            self._check_name()
            there = self._log.read()
            if there is not None:
                check_table(there.columns())
            if self._overwrite:
                return
            if there is not None:
                self._check_owner(there)
            elif (stray := self._files.stray()) is not None:
                raise OutputError(
                    f"output path {self.url} has files and is no Delta table ({stray}); nothing was published, name another "
                    "path, or set output.overwrite: true and they stay beside the table"
                )

    def lock(self, run_id: str) -> AbstractContextManager[object]:
        return self._files.lock(run_id)

    def prepare(self, run_id: str) -> Attempt:
        name = f"{re.sub(r'[^A-Za-z0-9._-]', '_', run_id).strip('.')[:80]}-{secrets.token_hex(4)}"
        fence = ""
        with _telling("nothing was written"):
            self._check_name()
            # Listed first: what is there by now was begun before the fence, and can commit no more.
            listed = self._files.attempts()
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
        if self._replaces == "partitions" and not content.partition_by:
            raise UsageError("only a table with partition columns has partitions to replace")
        with _telling("nothing was published"):
            there = self._log.read()
            if there is not None and attempt.name in attempts_in(there.pointer):
                return
            self._check_may_commit(attempt, there)
            self.check_schema(content)
            fault_point("told")
            self._complete(attempt, content)
            fault_point("synced")
            listed = self._files.attempts()
            version, pointer = self._publish(attempt, content)
        fault_point("published")
        try:
            self._versions.sweep(listed, pointer, version, point="discarding")
        except OSError as exc:
            log.warning("old versions below %s stay until the next run (%s)", self.url, exc)

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
            self._columns(content, self._log.read())

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

    def _check_may_commit(self, attempt: Attempt, there: Snapshot | None) -> None:
        """Raises RunLockedError if another attempt has begun since, or has made the table."""
        pointer = None if there is None else there.pointer
        writer = None if pointer is None else pointer.writer
        if (attempt.fence and writer != attempt.name) or (not attempt.fence and there is not None):
            raise RunLockedError(
                f"output path {self.url}: another run has begun since, and may publish; this one published nothing"
            )

    def _columns(self, content: Content, there: Snapshot | None) -> list[dict[str, Any]]:
        columns = None if there is None else there.columns()
        return columns_for(content.schema, content.partition_by, columns, content.files)

    def _complete(self, attempt: Attempt, content: Content) -> None:
        """Leaves of the attempt what the table is to have of it, and all of that."""
        self._files.close(attempt.name)
        fault_point("closed")
        self._files.check(attempt.name, content.files)
        wanted = {each.name for each in content.files if each.rows} | set(content.beside)
        found = self._files.sizes(attempt.name)
        self._files.delete(attempt.name, [name for name in found if name not in wanted])
        listed = FileList(attempt.name, content.files).to_bytes()
        self._files.settle(attempt.name, content.beside, {**content.notes, LIST_NAME: listed})
        self._files.sync(attempt.name)

    def _publish(self, attempt: Attempt, content: Content) -> tuple[int, Pointer]:
        by = content.partition_by
        added = [
            AddedFile(
                f"{RUNS}/{attempt.name}/{each.name}",
                each.size_bytes,
                partition_values(each.folder, content.schema),
                statistics(each, content.schema, by),
            )
            for each in content.files
            if each.rows
        ]
        if self._replaces == "partitions":
            self._widen(attempt, content)

        def write(there: Snapshot | None, pointer: Pointer) -> None:
            fields = self._columns(content, there)
            if there is None:
                self._log.create(fields, by, added, pointer, self._application)
            elif self._replaces == "partitions":
                self._log.replace_partitions(there, added, pointer, self._application)
            else:
                self._log.replace(there, fields, added, pointer, self._application)

        self._tried.add(attempt.name)
        return self._versions.change(lambda there: self._next(attempt, content, there), write)

    def _next(self, attempt: Attempt, content: Content, there: Snapshot | None) -> Pointer:
        self._check_may_commit(attempt, there)
        return self._versions.published(there, attempt, content)

    def _widen(self, attempt: Attempt, content: Content) -> None:
        """Adds new columns, in a commit of its own: they are null until the next."""
        there = self._log.read()
        new = self._new_columns(content, there)
        if new:

            def add(there: Snapshot | None, pointer: Pointer) -> None:
                new = self._new_columns(content, there)
                if there is not None and new:
                    self._log.add_columns(there, new, pointer, self._application)

            def same(there: Snapshot | None) -> Pointer:
                self._check_may_commit(attempt, there)
                return again(there)

            self._versions.change(same, add)
            fault_point("widened")

    def _new_columns(self, content: Content, there: Snapshot | None) -> Sequence[Mapping[str, Any]]:
        fields = self._columns(content, there)
        return [] if there is None else fields[len(there.columns().fields) :]

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
