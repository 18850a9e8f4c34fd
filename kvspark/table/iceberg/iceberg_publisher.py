"""A table of Apache Iceberg: one snapshot a run, under the condition that no later run has begun.

    <location>/data/runs/<attempt>/        the rows; what the metadata names of them is in the table
    <location>/_kvspark/runs/<attempt>/    the report, the history, the quarantine
    <location>/metadata/                   Iceberg's own

A new attempt moves a branch, the fence, to a snapshot of its own before it removes what dead ones left. A commit
takes effect only where the fence is still its attempt's, and takes it away: so nothing of an attempt can become part of
the table once its files may be gone, and none twice. See `state` for what is where in the metadata.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import final

import pyarrow as pa
from pyiceberg.table import Table

from kvspark.errors import OutputError, RunLockedError
from kvspark.fault import fault_point
from kvspark.table.iceberg.catalog_table import TRIES, CatalogTable, StaleError
from kvspark.table.iceberg.columns import evolve, with_ids
from kvspark.table.iceberg.fence import Fence
from kvspark.table.iceberg.leftovers import Leftovers, attempts_left
from kvspark.table.iceberg.old_files import old_files
from kvspark.table.iceberg.rolling_back import roll_back
from kvspark.table.iceberg.run_snapshot import RunSnapshot
from kvspark.table.iceberg.state import OWNER, State
from kvspark.table.iceberg.target import IcebergTarget
from kvspark.table.merge.merging import Merge, NewRows, check_ids, merged_files
from kvspark.table.publish.added_runs import RUNS_NOTE, attempt_name
from kvspark.table.publish.dead_run import DeadRun
from kvspark.table.publish.publisher import (
    Attempt,
    Content,
    Published,
    Publisher,
    Replaces,
)
from kvspark.table.publish.unpublished_runs import UnpublishedRuns

log = logging.getLogger(__name__)

_WAITS_S = (0.0, 0.1, 0.5, 2.0, 5.0)
"""Before each of the tries of a commit."""
assert len(_WAITS_S) == TRIES


@final
class IcebergPublisher(Publisher):
    """One table of a catalog."""

    def __init__(
        self,
        target: IcebergTarget,
        *,
        owner: str | None = None,
        keep: int = 1,
        overwrite: bool = False,
        replaces: Replaces = "table",
        merge_by: Sequence[str] = (),
    ) -> None:
        """See `opening.iceberg_publisher`."""
        self._catalog = CatalogTable(target)
        self._owner = owner
        self._overwrite = overwrite
        self._merge_by = merge_by
        self._snapshot = RunSnapshot(self._catalog, owner, keep, overwrite, replaces)

    @property
    def url(self) -> str:
        return self._catalog.url

    def check(self, run_id: str | None = None) -> None:
        table = self._catalog.load()
        if table is None:
            return
        if not self._overwrite:
            self._check_owner(State(table))
        with self._catalog.telling("nothing was written"):
            self._snapshot.check_runs(table, run_id)
            check_ids(self._merge_by, table.schema().column_names, self.url)

    def check_columns(self, schema: pa.Schema, partition_by: Sequence[str], run_id: str) -> None:
        del run_id
        table = self._catalog.load()
        if table is not None and pa.null() not in schema.types:
            self._file_schema(table, schema, partition_by)

    def _check_owner(self, state: State) -> None:
        if not state.is_ours and state.has_rows:
            raise OutputError(
                f"{self.url} has rows that no run wrote; nothing was published, name another table, or set "
                "output.overwrite: true and those rows are a kept version"
            )
        if None not in (self._owner, state.owner) and state.owner != self._owner:
            raise OutputError(
                f"{self.url} has the output of another job (run.name {state.owner}); nothing was published, name another "
                "table, or set output.overwrite: true and that output is a kept version"
            )

    def lock(self, run_id: str) -> AbstractContextManager[DeadRun | None]:
        return self._catalog.files(self._ensure()).lock(run_id)

    def prepare(self, run_id: str) -> Attempt:
        name = attempt_name(run_id)
        with self._catalog.telling("nothing was written"):
            # Listed first: what is there by now was begun before the fence, and can commit no more.
            there = self._ensure()
            attempts = self._catalog.files(there).inventory()
            described = self._catalog.metadata_names(there)
            table, fence = Fence.take(self._catalog, name)
            fault_point("fenced")
            leftovers = Leftovers(self._catalog, table)
            leftovers.remove_described(described)
            leftovers.remove_attempts(attempts)
            fault_point("swept")
            place = self._catalog.files(table).open(name)
        return Attempt(run_id, name, place, fence.text, partial(self._file_schema, table))

    def commit(self, attempt: Attempt, content: Content) -> None:
        table = self._fenced(attempt)
        if State(table).published_by(attempt.name):
            return
        with self._catalog.telling("nothing was published"):
            self._settle(table, attempt, content)
        fault_point("synced")
        before = self._publish(attempt, content)
        fault_point("published")
        if before is not None:
            self._tidy(before)

    def merged(self, attempt: Attempt, content: Content, merge: Merge) -> Content:
        table, by = self._fenced(attempt), content.partition_by
        schema = attempt.file_schema(content.schema, by)
        options = self._catalog.options(table.location())
        new = NewRows(attempt.place, content.files, content.beside, schema, by, options)
        with self._catalog.telling("nothing was published"):
            old = old_files(table, self.url)
        made = replace(content, merged=merged_files(merge, new, old))
        fault_point("merged")
        return made

    def abort(self, attempt: Attempt) -> None:
        try:
            with self._catalog.telling("the next run removes what is left"):
                Fence.from_text(attempt.fence).release(self._catalog)
                table = self._catalog.load()
                if table is not None and not State(table).published_by(attempt.name):
                    files = self._catalog.files(table).inventory().get(attempt.name, ())
                    Leftovers(self._catalog, table).remove_attempts({attempt.name: files})
        except (OutputError, StaleError) as exc:
            log.warning("%s", exc)

    def current(self) -> Published | None:
        table = self._catalog.load()
        main = None if table is None else State(table).main
        return None if table is None or main is None else State(table).published(main, self.url)

    def versions(self) -> tuple[Published, ...]:
        table = self._catalog.load()
        if table is None:
            return ()
        state = State(table)
        return tuple(state.published(each, self.url) for each in state.kept)

    def note(self, version: Published, name: str) -> bytes | None:
        """A small file of `version`, `_kvspark/run.json` say; None if it has none.

        Raises:
            OutputError: the catalog or its storage refuses.
        """
        table = self._catalog.load()
        with self._catalog.telling("nothing was changed"):
            if table is None:
                return None
            return self._catalog.files(table).note(State(table).run_in(version), name)

    def unpublished(self) -> UnpublishedRuns | None:
        table = self._catalog.load()
        with self._catalog.telling("nothing was changed"):
            return None if table is None else self._catalog.files(table).unpublished()

    def rollback(self, version: Published) -> None:
        with self._catalog.telling("the table is as it was"):
            roll_back(self._catalog, version)
        fault_point("restored")

    def _ensure(self) -> Table:
        return self._catalog.ensure(**{OWNER: self._owner or ""})

    def _fenced(self, attempt: Attempt) -> Table:
        """The table, to which the attempt has committed or may commit."""
        table = self._catalog.load()
        if table is None:
            raise RunLockedError(f"{self.url}: the table was removed; this run published nothing")
        if not State(table).published_by(attempt.name):
            fence = Fence.from_text(attempt.fence)
            fence.check(table, self.url)
            if self._snapshot.replaces in ("run", "rows"):
                fence.check_rows(table, self.url)
        return table

    def _publish(self, attempt: Attempt, content: Content) -> Table | None:
        """What the table was until readers found `attempt`; None where it is not known."""
        for wait_s in _WAITS_S:
            time.sleep(wait_s)
            table = self._fenced(attempt)
            if State(table).published_by(attempt.name):
                return None
            try:
                self._snapshot.commit(table, attempt, content)
                return table
            except StaleError:
                log.info("%s: another writer changed the table, which is tried again", self.url)
            except OutputError:
                if not self._landed(attempt):
                    raise
                return table
        raise OutputError(
            f"{self.url}: other writers changed the table {TRIES} times in a row; nothing was published, start again when "
            "they are quiet"
        )

    def _settle(self, table: Table, attempt: Attempt, content: Content) -> None:
        """Leaves of the attempt's files those that count, and checks that they are there."""
        files = self._catalog.files(table)
        runs = self._snapshot.runs(table, attempt, content)
        notes = {**content.notes, **({} if runs is None else {RUNS_NOTE: runs.to_bytes()})}
        fault_point("told")
        # From here on no task can add a file.
        files.close(attempt.name)
        fault_point("closed")
        files.check(attempt.name, content.all_files)
        wanted = {each.name for each in content.all_files if each.rows} | {*content.beside}
        files.delete(attempt.name, [n for n in files.sizes(attempt.name) if n not in wanted])
        files.settle(attempt.name, content.beside, notes)
        files.sync(attempt.name)

    def _landed(self, attempt: Attempt) -> bool:
        """True if a commit whose answer was lost came through."""
        try:
            table = self._catalog.load()
        except OutputError:
            return False
        return table is not None and State(table).published_by(attempt.name)

    def _tidy(self, before: Table) -> None:
        """Removes what `before` had and nobody keeps; what a later attempt may have made is not looked at."""
        try:
            with self._catalog.telling("old versions stay until the next run"):
                table = self._catalog.load()
                if table is not None:
                    leftovers = Leftovers(self._catalog, table)
                    gone = attempts_left(before, table)
                    leftovers.remove_described(Leftovers(self._catalog, before).described())
                    files = self._catalog.files(table).inventory() if gone else {}
                    leftovers.remove_attempts({each: files.get(each, ()) for each in sorted(gone)})
        except OutputError as exc:
            log.warning("%s", exc)

    def _file_schema(
        self, table: Table, schema: pa.Schema, partition_by: Sequence[str] = ()
    ) -> pa.Schema:
        may_add = State(table).is_ours or self._overwrite
        with self._catalog.telling("nothing was written"):
            change = table.transaction()
            evolve(change, schema, partition_by, table=self.url, may_add=may_add)
            return with_ids(schema, change.table_metadata.schema())
