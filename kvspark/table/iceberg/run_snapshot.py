"""The one snapshot that makes what a run wrote the table, or the partitions of it that the run touched."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

from pyiceberg.expressions import AlwaysTrue
from pyiceberg.manifest import DataFile, ManifestFile
from pyiceberg.table import Table, Transaction
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import SetPropertiesUpdate

from kvspark.errors import OutputError
from kvspark.fault import fault_point
from kvspark.table.iceberg.catalog_table import ROWS, CatalogTable
from kvspark.table.iceberg.columns import evolve
from kvspark.table.iceberg.data_files import data_file, required_nulls
from kvspark.table.iceberg.fence import Fence
from kvspark.table.iceberg.leftovers import attempt_of, files_of, new_commit_uuid
from kvspark.table.iceberg.state import ATTEMPT, OWNER, RUN, State, said
from kvspark.table.publish.added_runs import RUNS_NOTE, AddedRuns, is_of_run
from kvspark.table.publish.publisher import Attempt, Content, Replaces


@final
@dataclass(frozen=True, slots=True)
class RunSnapshot:
    """How attempts become snapshots of one table."""

    catalog: CatalogTable
    owner: str | None
    keep: int
    overwrite: bool
    replaces: Replaces

    def check_runs(self, table: Table, run_id: str | None) -> None:
        """Does nothing if a run `run_id` can be told apart from all others, where it is to be.

        Raises:
            OutputError: it cannot.
        """
        if self.replaces == "run":
            runs = self._before(table)
            if run_id is not None:
                runs.check_told_apart(run_id, _attempts(table, _there(table)), self.catalog.url)

    def runs(self, table: Table, attempt: Attempt, content: Content) -> AddedRuns | None:
        """Which runs have added the files of the table once `content` is committed; None if nobody knows.

        Raises:
            OutputError: as `check_runs`, `commit`.
        """
        count = sum(1 for each in content.all_files if each.rows)
        if self.replaces == "rows" and State(table).has_rows:
            return None  # a file may have rows of several runs
        if self.replaces in ("table", "rows"):
            return AddedRuns({attempt.name: count})
        if self.replaces == "run":
            self.check_runs(table, attempt.run_id)
        elif not self._is_known(table):
            return None
        before = self._before(table)
        if self.replaces == "run":
            before = before.without_run(attempt.run_id)
        else:
            change = table.transaction()
            self._evolve(table, change, content)
            files = _data_files(self.catalog.url, change.table_metadata, attempt, content)
            before = before.without(
                _attempts(table, self._replaced(table, files, attempt, content))
            )
        return before.with_attempt(attempt.name, attempt.run_id, count)

    def _before(self, table: Table) -> AddedRuns:
        state, url = State(table), self.catalog.url
        if state.last is None and not state.has_rows:
            return AddedRuns()
        return AddedRuns.from_bytes(self._note(table), url)

    def _is_known(self, table: Table) -> bool:
        return not State(table).has_rows or self._note(table) is not None

    def _note(self, table: Table) -> bytes | None:
        last = State(table).last
        name = None if last is None else said(last, ATTEMPT)
        return None if name is None else self.catalog.files(table).note(name, RUNS_NOTE)

    def _evolve(self, table: Table, change: Transaction, content: Content) -> None:
        evolve(
            change,
            content.schema,
            content.partition_by,
            table=self.catalog.url,
            may_add=State(table).is_ours or self.overwrite,
        )

    def commit(self, table: Table, attempt: Attempt, content: Content) -> None:
        """Makes `content` what readers find.

        Raises:
            StaleError: the table was changed since it was loaded; nothing was committed.
            OutputError: the table cannot have the rows, or the catalog refuses.
        """
        url, state = self.catalog.url, State(table)
        versions = [each.snapshot_id for each in (state.main, *state.kept) if each is not None]
        updates = state.keeping(versions[: self.keep])
        owner = self.owner if self.owner is not None else state.owner or ""
        updates.append(SetPropertiesUpdate(updates={OWNER: owner}))
        condition = Fence.from_text(attempt.fence).condition
        with self.catalog.telling("nothing was published, as far as is known"):
            change = self.catalog.staging(table, [condition], updates).transaction()
            self._evolve(table, change, content)
            files = _data_files(url, change.table_metadata, attempt, content)
            gone = [*self._replaced(table, files, attempt, content)]
            said_of_it = {ATTEMPT: attempt.name, RUN: attempt.run_id}
            update = change.update_snapshot(snapshot_properties=said_of_it)
            only_adds = self.replaces in ("run", "rows") and not gone
            mine = update.fast_append() if only_adds else update.overwrite()
            mine.commit_uuid = new_commit_uuid()
            _without_dead_manifests(mine)
            if self.replaces == "table":
                mine.delete_by_predicate(AlwaysTrue())
            for old in gone:
                mine.delete_data_file(old)
            for file in files:
                mine.append_data_file(file)
            mine.commit()
            fault_point("planned")
            change.commit_transaction()

    def _replaced(
        self, table: Table, files: Sequence[DataFile], attempt: Attempt, content: Content
    ) -> Iterator[DataFile]:
        """The files that are in the table and will not be any more."""
        there = _there(table)
        if self.replaces == "table":
            yield from there
            return
        if self.replaces == "run":
            location, run_id = table.location(), attempt.run_id
            yield from (e for e in there if is_of_run(attempt_of(e.file_path, location), run_id))
            return
        if self.replaces == "rows":
            # Else it would add rows beside those of their ids.
            assert content.merged is not None
            names = {*content.merged.gone}
            yield from (each for each in there if each.file_path in names)
            return
        touched = {_key(file) for file in files}
        for old in there:
            if old.spec_id != table.metadata.default_spec_id:
                raise OutputError(
                    f"{self.catalog.url} has files of other partitions than it has now; nothing was published, rewrite "
                    "them, or let the run replace the whole table"
                )
            if _key(old) in touched:
                yield old


def _there(table: Table) -> Iterator[DataFile]:
    """The files that readers find."""
    snapshot = table.metadata.current_snapshot()
    return iter(()) if snapshot is None else files_of(snapshot, table.io)


def _attempts(table: Table, files: Iterable[DataFile]) -> list[str]:
    return [attempt_of(each.file_path, table.location()) for each in files]


def _key(file: DataFile) -> tuple[object, ...]:
    return tuple(file.partition[place] for place in range(len(file.partition)))


def _data_files(
    url: str, metadata: TableMetadata, attempt: Attempt, content: Content
) -> list[DataFile]:
    schema, spec = metadata.schema(), metadata.spec()
    folder = f"{metadata.location.rstrip('/')}/{ROWS}/{attempt.name}"
    files = [each for each in content.all_files if each.rows]
    for each in files:
        column = required_nulls(each, schema)
        if column is not None:
            raise OutputError(
                f"{url} can have no null in column {column!r}, and the run has one; nothing was published"
            )
    return [data_file(f"{folder}/{each.name}", each, schema, spec) for each in files]


def _without_dead_manifests(producer: Any) -> None:
    """Manifests of which all files are deleted, pyiceberg carries on for ever, one more each night; others do not."""
    found = producer._existing_manifests  # noqa: SLF001 - there is no other way to leave them out

    def living() -> list[ManifestFile]:
        return [each for each in found() if each.has_added_files() or each.has_existing_files()]

    producer._existing_manifests = living  # noqa: SLF001
