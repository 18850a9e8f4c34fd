"""What attempts left that is in no snapshot any more, or never was in one."""

from __future__ import annotations

import logging
import secrets
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import final

from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile, ManifestContent, ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from kvspark.fault import fault_point
from kvspark.table.iceberg.catalog_table import ROWS, CatalogTable
from kvspark.table.iceberg.state import State
from kvspark.table.publish.added_runs import RUNS_NOTE, AddedRuns
from kvspark.table.publish.files.table_files import is_note, is_report

log = logging.getLogger(__name__)

_MARK = b"kvspark"


def new_commit_uuid() -> uuid.UUID:
    """What is in the names of the files that describe a snapshot; that they are ours can be seen in it."""
    return uuid.UUID(bytes=_MARK + secrets.token_bytes(16 - len(_MARK)))


def is_ours(name: str) -> bool:
    """True for the name of a file that describes a snapshot of ours: `<uuid>-m0.avro`, `snap-1-0-<uuid>.avro`."""
    return _MARK.hex() in name.replace("-", "")


def files_of(snapshot: Snapshot, io: FileIO) -> Iterator[DataFile]:
    """The files whose rows `snapshot` has."""
    for manifest in snapshot.manifests(io):
        if manifest.content == ManifestContent.DATA:
            yield from (entry.data_file for entry in manifest.fetch_manifest_entry(io))


def attempt_of(path: str, location: str) -> str:
    """The attempt that wrote the file at `path` of a table at `location`; no name of one for files of others."""
    ours = f"{location.rstrip('/')}/{ROWS}/"
    return path.removeprefix(ours).partition("/")[0] if path.startswith(ours) else ""


def attempts_left(before: Table, now: Table) -> set[str]:
    """The attempts that had a snapshot in `before`, or rows in one that is gone `now`, and have no snapshot any more."""
    there = {each.snapshot_id for each in now.metadata.snapshots}
    gone = (each for each in before.metadata.snapshots if each.snapshot_id not in there)
    paths = (file.file_path for each in gone for file in files_of(each, before.io))
    had = State(before).attempts | {attempt_of(path, before.location()) for path in paths}
    return had - State(now).attempts - {""}


@final
class Leftovers:
    """The files of attempts below a table, against what its metadata said when it was loaded.

    Its methods raise OSError where the file system or the store refuses.
    """

    def __init__(self, catalog: CatalogTable, table: Table) -> None:
        self._table = table
        self._files = catalog.files(table)
        self._described_in = catalog.metadata_url(table)
        self._alive = State(table).attempts
        self._manifests: dict[str, ManifestFile] | None = None
        self._rows: set[str] | None = None
        self._holding: set[str] | None = None

    def described(self) -> set[str]:
        """The names of the files that describe the snapshots."""
        lists = {each.manifest_list.rpartition("/")[2] for each in self._table.metadata.snapshots}
        return lists | set(self._by_name())

    def remove_described(self, names: Iterable[str]) -> None:
        """Removes those files of `names` that describe no snapshot, and are ours."""
        known: set[str] | None = None
        for name in filter(is_ours, names):
            known = self.described() if known is None else known
            if name not in known:
                self._table.io.delete(f"{self._described_in}/{name}")

    def remove_attempts(self, attempts: Mapping[str, Sequence[str]]) -> None:
        """Removes of `attempts`, each with its files, what no snapshot has; of those that can commit no more, or have committed.

        A snapshot of another writer may have files of ours whose own snapshot is gone: it keeps them.
        """
        for attempt, names in attempts.items():
            if attempt not in self._alive:
                self._remove(attempt, names)
                fault_point("discarding")

    def _held(self) -> set[str]:
        """The attempts whose rows are in a version; they may have had none, but bad ones."""
        if self._holding is None:
            notes = (self._files.note(name, RUNS_NOTE) for name in sorted(self._alive))
            known = (AddedRuns.from_bytes(n, self._files.url) for n in notes if n is not None)
            self._holding = {name for each in known for name in each.files}
        return self._holding

    def is_whole(self, snapshot: Snapshot) -> bool:
        """True if all files of `snapshot` that are ours are there, as it says."""
        sizes: dict[str, Mapping[str, int]] = {}
        ours = f"{self._table.location().rstrip('/')}/{ROWS}/"
        for file in files_of(snapshot, self._table.io):
            if not file.file_path.startswith(ours):
                continue
            attempt, _, name = file.file_path.removeprefix(ours).partition("/")
            if attempt not in sizes:
                sizes[attempt] = self._files.sizes(attempt)
            if sizes[attempt].get(name) != file.file_size_in_bytes:
                return False
        return True

    def _remove(self, attempt: str, names: Sequence[str]) -> None:
        rows = [name for name in names if not is_note(name)]
        unused = [name for name in rows if f"{attempt}/{name}" not in self._in_use()]
        is_held = attempt in self._held()
        if is_held or len(unused) < len(rows):
            if unused:
                self._files.delete(attempt, unused)
            if is_held and any(map(is_report, names)):
                self._files.remove_reports(attempt)
            return
        self._files.remove(attempt)
        log.info("removed what a run left in %s/%s/%s", self._files.url, ROWS, attempt)

    def _by_name(self) -> dict[str, ManifestFile]:
        """The manifests of all snapshots."""
        if self._manifests is None:
            io = self._table.io
            found = (m for each in self._table.metadata.snapshots for m in each.manifests(io))
            self._manifests = {each.manifest_path.rpartition("/")[2]: each for each in found}
        return self._manifests

    def _in_use(self) -> set[str]:
        """The files of which some snapshot has rows, by attempt and name."""
        if self._rows is None:
            io = self._table.io
            entries = (e for m in self._by_name().values() for e in m.fetch_manifest_entry(io))
            paths = (each.data_file.file_path for each in entries)
            self._rows = {path.rpartition(f"/{ROWS}/")[2] for path in paths}
        return self._rows
