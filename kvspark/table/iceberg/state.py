"""What a table says of the runs that published to it.

snapshot summary   kvspark.attempt, kvspark.run       of a version
                   kvspark.fence                      of no version: which attempt may commit
                   kvspark.blank                      of no version: the first of a table without rows
branch             kvspark_writer                     the fence; gone once its attempt has committed
tags               kvspark_previous_1, _2 ...         the versions that are kept, the one replaced last first
property           kvspark.owner                      the job, or nothing; of all tables that are ours
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from itertools import count
from typing import final

from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRefType
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update import (
    RemoveSnapshotRefUpdate,
    RemoveSnapshotsUpdate,
    SetSnapshotRefUpdate,
    TableUpdate,
)

from kvspark.table.publish.publisher import Published

ATTEMPT, RUN, FENCE, BLANK = "kvspark.attempt", "kvspark.run", "kvspark.fence", "kvspark.blank"
OWNER = "kvspark.owner"
WRITER_REF = "kvspark_writer"
_KEPT_REF = "kvspark_previous_"
_OTHERS = "snapshot-"
"""In place of the attempt of a version that no run made."""


def said(snapshot: Snapshot, name: str) -> str | None:
    """What the summary of `snapshot` says under `name`."""
    return None if snapshot.summary is None else snapshot.summary.get(name)


def named(name: str, snapshot_id: int, kind: SnapshotRefType) -> SetSnapshotRefUpdate:
    """The change after which the branch or tag `name` is at a snapshot, for ever."""
    return SetSnapshotRefUpdate(
        ref_name=name,
        type=kind,
        snapshot_id=snapshot_id,
        max_ref_age_ms=None,
        max_snapshot_age_ms=None,
        min_snapshots_to_keep=None,
    )


@final
class State:
    """What the metadata of a table says."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self.metadata: TableMetadata = table.metadata

    @property
    def main(self) -> Snapshot | None:
        """What readers find; None without rows of anybody."""
        found = self.metadata.current_snapshot()
        return None if found is None or said(found, BLANK) is not None else found

    @property
    def last(self) -> Snapshot | None:
        """The run that published last before `main`, or as it; None if there is none, or others have removed its snapshot."""
        return None if self.main is None else self._run_of(self.main)

    @property
    def kept(self) -> Sequence[Snapshot]:
        """The versions that can be restored, the one that was replaced last first."""
        found: list[Snapshot] = []
        for number in count(1):
            ref = self.metadata.refs.get(f"{_KEPT_REF}{number}")
            if ref is None:
                return found
            snapshot = self.metadata.snapshot_by_id(ref.snapshot_id)
            if snapshot is not None:
                found.append(snapshot)
        raise AssertionError

    @property
    def writer(self) -> int | None:
        """The snapshot of the attempt that may commit; None if none may."""
        ref = self.metadata.refs.get(WRITER_REF)
        return None if ref is None else ref.snapshot_id

    @property
    def attempts(self) -> set[str]:
        """Those that published a snapshot that is still there."""
        return {each for snapshot in self.metadata.snapshots if (each := said(snapshot, ATTEMPT))}

    @property
    def is_ours(self) -> bool:
        """True if kvspark made the table, or was allowed to write to it before."""
        return OWNER in self._table.properties

    @property
    def owner(self) -> str | None:
        """The job whose table it is; None if it is any job's, or nobody's yet."""
        return self._table.properties.get(OWNER) or None

    @property
    def has_rows(self) -> bool:
        """True unless it is certain that readers find none."""
        return self.main is not None and said(self.main, "total-records") != "0"

    def published(self, snapshot: Snapshot, url: str) -> Published:
        """`snapshot` of target `url` as a version; also one that no run made."""
        moment = datetime.fromtimestamp(snapshot.timestamp_ms / 1000, timezone.utc)
        name = f"{_OTHERS}{snapshot.snapshot_id}"
        return Published(
            said(snapshot, ATTEMPT) or name,
            said(snapshot, RUN) or name,
            moment.isoformat(timespec="seconds"),
            f"{url}@{snapshot.snapshot_id}",
            int(said(snapshot, "total-records") or 0),
        )

    def run_in(self, version: Published) -> str:
        """The attempt whose notes tell of `version`: of one that no run made, the last run before it."""
        number = version.attempt.removeprefix(_OTHERS)
        snapshot = self.metadata.snapshot_by_id(int(number)) if number.isdecimal() else None
        run = None if snapshot is None else self._run_of(snapshot)
        return version.attempt if run is None else said(run, ATTEMPT) or version.attempt

    def published_by(self, attempt: str) -> bool:
        """True if `attempt` is published, also if it was replaced since."""
        return attempt in self.attempts

    def keeping(self, kept: Sequence[int], main: int | None = None) -> list[TableUpdate]:
        """The changes that leave `kept` as the versions beside `main`, or beside a new snapshot.

        After them no attempt may commit, and `surplus` is gone.
        """
        refs = self.metadata.refs
        wanted = {f"{_KEPT_REF}{number}": each for number, each in enumerate(kept, 1)}
        updates: list[TableUpdate] = [
            named(name, each, SnapshotRefType.TAG) for name, each in wanted.items()
        ]
        updates += [
            RemoveSnapshotRefUpdate(ref_name=name)
            for name in sorted(filter(_is_our_ref, refs))
            if name not in wanted
        ]
        surplus = [each.snapshot_id for each in self.surplus(kept, main)]
        if surplus:
            updates.append(RemoveSnapshotsUpdate(snapshot_ids=surplus))
        return updates

    def surplus(self, kept: Sequence[int], main: int | None = None) -> list[Snapshot]:
        """The snapshots that runs made and of which nobody has a version, branch or tag beside `kept` and `main`.

        The run before a version of another program is needed as well: it says which run has added what.
        """
        refs = self.metadata.refs
        others = {
            ref.snapshot_id
            for name, ref in refs.items()
            if name != MAIN_BRANCH and not _is_our_ref(name)
        }
        versions = filter(None, map(self.metadata.snapshot_by_id, filter(None, (*kept, main))))
        runs = {run.snapshot_id for run in map(self._run_of, versions) if run is not None}
        needed = {*kept, *others, *runs, main}
        return [
            snapshot
            for snapshot in self.metadata.snapshots
            if snapshot.snapshot_id not in needed and _is_ours(snapshot)
        ]

    def _run_of(self, version: Snapshot) -> Snapshot | None:
        """The last run in `version`."""
        found: Snapshot | None = version
        while found is not None and said(found, ATTEMPT) is None:
            before = found.parent_snapshot_id
            found = None if before is None else self.metadata.snapshot_by_id(before)
        return found


def _is_our_ref(name: str) -> bool:
    return name == WRITER_REF or name.startswith(_KEPT_REF)


def _is_ours(snapshot: Snapshot) -> bool:
    return any(said(snapshot, name) is not None for name in (ATTEMPT, FENCE, BLANK))
