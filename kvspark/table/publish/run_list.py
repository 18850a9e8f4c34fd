"""How the list of a version in an object store or in HDFS follows from the one before and from what a run has written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import final

from kvspark.errors import OutputError, UsageError
from kvspark.table.publish.file_list import LIST_NAME, FileList, Share, with_rows
from kvspark.table.publish.object_table import RUNS, ObjectTable
from kvspark.table.publish.pointer import Pointer
from kvspark.table.publish.publisher import Attempt, Content, Replaces
from kvspark.table.publish.table_columns import TableColumns

_ANEW = "run it once with output.mode: replace"


@final
@dataclass(frozen=True, slots=True)
class RunList:
    """What runs make of the table. Methods raise OSError where the store refuses."""

    table: ObjectTable
    replaces: Replaces

    @property
    def is_shared(self) -> bool:
        """True if versions may have files of several attempts, so that none of their folders is the table."""
        return self.replaces != "table"

    def check(self, there: Pointer | None, run_id: str | None) -> None:
        """Does nothing if a run `run_id`, where that is known, can add its rows to the version that `there` names.

        Raises:
            OutputError: it is not known what is in it, or some of it is gone.
        """
        before = self._before(there)
        if before is None:
            return
        stay = self._stay(before, run_id)
        lost = next(self.table.lost(stay), None)
        if lost is not None:
            raise OutputError(
                f"output path {self.table.url}: {RUNS}/{lost} of an earlier run is gone or was changed, so its rows would be "
                f"missing; nothing was published, see kvspark rollback --list, or {_ANEW}"
            )

    def check_columns(self, there: Pointer | None, columns: TableColumns, run_id: str) -> None:
        """Does nothing if rows of run `run_id` with `columns` can be added, as far as that is known before they are written.

        Raises:
            OutputError: the table has other columns, or as `check`.
        """
        before = self._before(there)
        if before is not None:
            others = (each for each in self._stay(before, run_id) if each.run_id != run_id)
            self._check_fits(before, others, columns)

    def made(self, attempt: Attempt, content: Content, there: Pointer) -> FileList:
        """The list of the version that `attempt` publishes behind `there`.

        Raises:
            UsageError: the table has no partitions to replace.
            OutputError: as `check_columns`.
        """
        if self.replaces == "partitions" and not content.partition_by:
            raise UsageError("only a table with partition columns has partitions to replace")
        own = Share(attempt.name, attempt.run_id, content.files, content.beside)
        columns = TableColumns.of(content.schema, content.partition_by)
        before = self._before(there)
        kept = () if before is None else before.kept_by(own, self.replaces)
        if before is not None:
            self._check_fits(before, kept, columns)
        if any(with_rows(each.files) for each in (*kept, own)):
            own = replace(own, files=with_rows(own.files))
        return FileList(attempt.name, (*kept, own), columns)

    def _before(self, there: Pointer | None) -> FileList | None:
        """The list to which the run adds; None for nothing."""
        if there is None or there.current is None or not self.is_shared:
            return None
        found = self.table.files(there.current)
        if found.columns is None:
            raise OutputError(
                f"output path {self.table.url}: an earlier kvspark has published what is there, and its {LIST_NAME} does not "
                f"say what is needed to add to it; nothing was published, {_ANEW}"
            )
        return found

    def _stay(self, before: FileList, run_id: str | None) -> tuple[Share, ...]:
        """What stays whatever the run writes; of partitions that is known last."""
        return before.kept_by(Share("", run_id or ""), self.replaces)

    def _check_fits(self, before: FileList, kept: Iterable[Share], columns: TableColumns) -> None:
        has_rows = any(each.files for each in kept)
        difference = before.columns and before.columns.difference(columns)
        if has_rows and difference:
            raise OutputError(
                f"output path {self.table.url}: {difference}; nothing was published, give both the same, or publish all of it "
                "with output.mode: replace"
            )
