"""The one commit that adds what a run wrote to a Delta table, and takes out what it replaces."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from kvspark.errors import RunLockedError, UsageError
from kvspark.fault import fault_point
from kvspark.table.delta.actions import AddedFile, TableFile, files_in, in_partitions_of
from kvspark.table.delta.columns import columns_for
from kvspark.table.delta.log import DeltaLog
from kvspark.table.delta.partition_values import partition_values
from kvspark.table.delta.snapshot import Snapshot, telling
from kvspark.table.delta.statistics import statistics
from kvspark.table.delta.versions import DeltaVersions, again, attempt_of
from kvspark.table.publish.added_runs import RUNS_NOTE, AddedRuns, is_of_run
from kvspark.table.publish.files.table_files import RUNS, TableFiles
from kvspark.table.publish.pointer import Pointer
from kvspark.table.publish.publisher import Attempt, Content, Replaces


@final
@dataclass(frozen=True, slots=True)
class RunCommit:
    """How attempts become commits of one table. Methods raise OSError where the log or the files cannot be read or written."""

    log: DeltaLog
    versions: DeltaVersions
    files: TableFiles
    application: str
    replaces: Replaces

    def check(self, attempt: Attempt, content: Content, there: Snapshot | None) -> None:
        """Does nothing if `attempt` may make `content` a commit behind `there`.

        Raises:
            UsageError: the table has no partitions to replace.
            RunLockedError: another attempt, or writer, was first.
            OutputError: the table cannot have the columns.
        """
        if self.replaces == "partitions" and not content.partition_by:
            raise UsageError("only a table with partition columns has partitions to replace")
        self._check_may_commit(attempt, there, attempt.fence)
        self.columns(content, there)

    def check_runs(self, run_id: str | None, there: Snapshot) -> None:
        """Does nothing if a run `run_id` can be told apart from all others, where it is to be.

        Raises:
            OutputError: it cannot.
        """
        if self.replaces == "run":
            runs = self._before(there)
            if run_id is not None:
                runs.check_told_apart(run_id, _attempts(files_of(there)), self.files.url)

    def runs(self, attempt: Attempt, content: Content, there: Snapshot | None) -> AddedRuns | None:
        """Which runs have added the files of the table once `content` is committed; None if nobody knows.

        Raises:
            OutputError: as `check_runs`.
        """
        added = self._added(attempt, content)
        if there is None or self.replaces == "table":
            return AddedRuns({attempt.name: len(added)})
        if self.replaces == "rows":
            return None  # a file may have rows of several runs
        if self.replaces == "run":
            self.check_runs(attempt.run_id, there)
        elif not self._is_known(there):
            return None
        before = self._before(there)
        if self.replaces == "run":
            before = before.without_run(attempt.run_id)
        else:
            before = before.without(_attempts(self._gone(attempt, added, content, there)))
        return before.with_attempt(attempt.name, attempt.run_id, len(added))

    def publish(self, attempt: Attempt, content: Content) -> tuple[int, Pointer]:
        """The version of the log that has `content`, and the pointer in it.

        Raises:
            RunLockedError, OutputError: as `check`.
        """
        added = self._added(attempt, content)
        version = attempt.fence
        if self.replaces != "table":
            version = self._widened(attempt, content)

        def next_pointer(there: Snapshot | None) -> Pointer:
            self._check_may_commit(attempt, there, version)
            return self.versions.published(
                there, attempt, self._rows(attempt, added, content, there)
            )

        def write(there: Snapshot | None, pointer: Pointer) -> None:
            fields = self.columns(content, there)
            if there is None:
                by = content.partition_by
                self.log.create(fields, by, added, pointer, self.application)
            elif self.replaces == "table":
                self.log.replace(there, fields, added, pointer, self.application)
            else:
                gone = self._gone(attempt, added, content, there)
                self.log.exchange(there, added, gone, pointer, self.application)

        return self.versions.change(next_pointer, write)

    def columns(self, content: Content, there: Snapshot | None) -> list[dict[str, Any]]:
        """The columns of the table once it has `content`.

        Raises:
            OutputError: it cannot have it.
        """
        columns = None if there is None else there.columns()
        return columns_for(content.schema, content.partition_by, columns, content.all_files)

    def _check_may_commit(self, attempt: Attempt, there: Snapshot | None, version: str) -> None:
        """Raises RunLockedError if another attempt has begun since, has made the table, or changed what is added to."""
        pointer = None if there is None else there.pointer
        writer = None if pointer is None else pointer.writer
        if (attempt.fence and writer != attempt.name) or (not attempt.fence and there is not None):
            raise RunLockedError(
                f"output path {self.files.url}: another run has begun since, and may publish; this one published nothing"
            )
        is_newest = there is None or there.version == int(version)
        if there is not None and self.replaces in ("run", "rows") and not is_newest:
            raise RunLockedError(
                f"output path {self.files.url}: another program has written to the table while this run, which keeps rows of it, "
                f"was under way (version {there.version:,} came behind {int(version):,}); this run published nothing, start "
                "it again"
            )

    def _before(self, there: Snapshot) -> AddedRuns:
        current = again(there).current
        if current is None and not there.has_files():
            return AddedRuns()
        note = None if current is None else self.files.note(current.attempt, RUNS_NOTE)
        return AddedRuns.from_bytes(note, self.files.url)

    def _is_known(self, there: Snapshot) -> bool:
        current = again(there).current
        return current is not None and self.files.note(current.attempt, RUNS_NOTE) is not None

    def _gone(
        self, attempt: Attempt, added: Sequence[AddedFile], content: Content, there: Snapshot
    ) -> list[TableFile]:
        """The files that the run replaces."""
        found = files_of(there)
        if self.replaces == "rows":
            assert content.merged is not None  # else it would add rows beside those of their ids
            return [each for each in found if each.path in {*content.merged.gone}]
        if self.replaces == "partitions":
            return in_partitions_of(added, found)
        return [each for each in found if is_of_run(attempt_of(each.path), attempt.run_id)]

    def _rows(
        self,
        attempt: Attempt,
        added: Sequence[AddedFile],
        content: Content,
        there: Snapshot | None,
    ) -> int:
        """How many the table has once `added` is."""
        rows = sum(each.rows for each in content.all_files)
        if there is None or self.replaces == "table":
            return rows
        kept = sum(each.rows for each in files_of(there))
        return rows + kept - sum(each.rows for each in self._gone(attempt, added, content, there))

    def _added(self, attempt: Attempt, content: Content) -> list[AddedFile]:
        return [
            AddedFile(
                f"{RUNS}/{attempt.name}/{each.name}",
                each.size_bytes,
                partition_values(each.folder, content.schema),
                statistics(each, content.schema, content.partition_by),
            )
            for each in content.all_files
            if each.rows
        ]

    def _widened(self, attempt: Attempt, content: Content) -> str:
        """The version that has new columns, which are null until the next: they are added in a commit of their own."""
        if not self._new_columns(content, self.log.read()):
            return attempt.fence

        def add(there: Snapshot | None, pointer: Pointer) -> None:
            new = self._new_columns(content, there)
            if there is not None and new:
                self.log.add_columns(there, new, pointer, self.application)

        def same(there: Snapshot | None) -> Pointer:
            self._check_may_commit(attempt, there, attempt.fence)
            return again(there)

        version, _ = self.versions.change(same, add)
        fault_point("widened")
        return str(version)

    def _new_columns(self, content: Content, there: Snapshot | None) -> Sequence[Mapping[str, Any]]:
        fields = self.columns(content, there)
        return [] if there is None else fields[len(there.columns().fields) :]


def files_of(there: Snapshot) -> list[TableFile]:
    """All files of the table."""
    with telling(there.url):
        return files_in(there.table)


def _attempts(files: Iterable[TableFile]) -> list[str]:
    return [attempt_of(each.path) for each in files]
