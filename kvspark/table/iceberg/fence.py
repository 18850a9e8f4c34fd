"""Which attempt may commit: the one whose snapshot the branch `kvspark_writer` names.

The snapshot has no files. A branch is all that every catalog lets a commit be conditional on and that one run can
change alone: properties are not, and `main` belongs to other writers too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from pyiceberg.table import Table
from pyiceberg.table.update import AssertRefSnapshotId, RemoveSnapshotsUpdate, TableUpdate

from kvspark.errors import OutputError, RunLockedError
from kvspark.fault import fault_point
from kvspark.table.iceberg.catalog_table import TRIES, CatalogTable, StaleError
from kvspark.table.iceberg.leftovers import new_commit_uuid
from kvspark.table.iceberg.state import BLANK, FENCE, WRITER_REF, State


@final
@dataclass(frozen=True, slots=True)
class Fence:
    """What the table was when an attempt began."""

    snapshot_id: int
    schema_id: int
    last_column_id: int
    """With `schema_id`, of the columns whose ids the files have."""
    main_id: int = 0
    """The snapshot that readers found; 0 for none."""

    @property
    def text(self) -> str:
        """Of `Attempt.fence`."""
        return f"{self.snapshot_id}:{self.schema_id}:{self.last_column_id}:{self.main_id}"

    @classmethod
    def from_text(cls, text: str) -> Fence:
        """The fence whose `text` it is."""
        return cls(*map(int, text.split(":")))

    @property
    def condition(self) -> AssertRefSnapshotId:
        """Holds as long as no later attempt has begun."""
        return AssertRefSnapshotId(ref=WRITER_REF, snapshot_id=self.snapshot_id)

    def check(self, table: Table, url: str) -> None:
        """Does nothing if the attempt may commit to `table`.

        Raises:
            RunLockedError: a later attempt has begun, or somebody went back to another version.
            OutputError: somebody changed the columns.
        """
        if State(table).writer != self.snapshot_id:
            raise RunLockedError(
                f"{url}: another run has begun since, and may publish; this one published nothing"
            )
        now = table.metadata.current_schema_id, table.metadata.last_column_id
        if now != (self.schema_id, self.last_column_id):
            raise OutputError(
                f"{url}: its columns were changed while the run wrote; nothing was published, start again"
            )

    def check_rows(self, table: Table, url: str) -> None:
        """Does nothing if readers find what they found when the attempt began.

        Raises:
            RunLockedError: another program has written to the table since.
        """
        main = State(table).main
        if self.main_id != (0 if main is None else main.snapshot_id):
            raise RunLockedError(
                f"{url}: another program has written to the table while this run, which keeps rows of it, was under way; this run "
                "published nothing, start it again"
            )

    @classmethod
    def take(cls, catalog: CatalogTable, attempt: str) -> tuple[Table, Fence]:
        """The table as it is once `attempt`, and no other, may commit.

        Raises:
            OutputError: other writers change the table all the time.
        """
        for _ in range(TRIES):
            table = catalog.load()
            if table is None:
                break
            try:
                snapshot_id = _take(catalog, table, attempt)
            except StaleError:
                continue
            known, main = table.metadata, State(table).main
            ids = known.current_schema_id, known.last_column_id
            return table.refresh(), cls(snapshot_id, *ids, 0 if main is None else main.snapshot_id)
        raise OutputError(
            f"{catalog.url}: it was removed, or changed {TRIES} times in a row; nothing was written, start again when other "
            "writers are quiet"
        )

    def release(self, catalog: CatalogTable) -> None:
        """No attempt may commit any more, if this one may.

        Raises:
            StaleError: another writer was first.
        """
        table = catalog.load()
        if table is None or State(table).writer != self.snapshot_id:
            return
        state = State(table)
        kept = [each.snapshot_id for each in state.kept]
        catalog.commit(
            table, [self.condition], state.keeping(kept, main=table.metadata.current_snapshot_id)
        )


def _take(catalog: CatalogTable, table: Table, attempt: str) -> int:
    before = State(table).writer
    updates: list[TableUpdate] = []
    if before is not None:
        updates.append(RemoveSnapshotsUpdate(snapshot_ids=[before]))
    with catalog.telling("nothing was written"):
        change = catalog.staging(table, (), updates).transaction()
        mark = new_commit_uuid()
        if not table.metadata.snapshots:  # the first one must be of `main`
            first = change.update_snapshot(snapshot_properties={BLANK: attempt}).fast_append()
            first.commit_uuid = mark
            first.commit()
        mine = change.update_snapshot(
            snapshot_properties={FENCE: attempt}, branch=WRITER_REF
        ).fast_append()
        mine.commit_uuid = mark
        mine.commit()
        fault_point("fencing")
        change.commit_transaction()
        return mine.snapshot_id
