"""The files of a table on a POSIX file system.

Tasks write to `_kvspark/open/<attempt>/`. One rename makes it `runs/<attempt>/`: a task that lives on finds no folder.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import final

from kvspark.table.place.local_place import LocalPlace
from kvspark.table.place.place import Place
from kvspark.table.place.split_place import SplitPlace
from kvspark.table.publish.files.file_lock import FileLock
from kvspark.table.publish.files.table_files import NOTES, RUNS, TableFiles, note_path
from kvspark.table.publish.unpublished_runs import UnpublishedFiles, UnpublishedRuns


@final
class PosixFiles(TableFiles):
    """The files below one folder."""

    def __init__(self, root: Path, *, runs: str = RUNS) -> None:
        self._root = root
        self._below = runs
        self._runs = root / runs
        self._open = root / NOTES / "open"
        self._notes = root / NOTES / RUNS

    @property
    def url(self) -> str:
        return str(self._root)

    @property
    def runs(self) -> str:
        return self._below

    def lock(self, run_id: str) -> FileLock:
        return FileLock(self._root / NOTES / "lock", url=self.url, run_id=run_id)

    def stray(self) -> str | None:
        names = [each.name for each in self._root.iterdir()] if self._root.exists() else []
        ours = {NOTES, RUNS} if NOTES in names else set()
        return next((name for name in sorted(names) if name not in ours), None)

    def open(self, attempt: str) -> Place:
        folder = self._open / attempt
        (folder / NOTES).mkdir(parents=True)
        return SplitPlace(LocalPlace(str(folder)), LocalPlace(str(folder / NOTES)))

    def close(self, attempt: str) -> None:
        self._runs.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # closed before
            (self._open / attempt).rename(self._runs / attempt)

    def sizes(self, attempt: str) -> Mapping[str, int]:
        folder = self._runs / attempt
        files = (each for each in folder.rglob("*") if each.is_file())
        return {each.relative_to(folder).as_posix(): each.stat().st_size for each in files}

    def settle(self, attempt: str, beside: Iterable[str], notes: Mapping[str, bytes]) -> None:
        folder = self._notes / attempt
        folder.mkdir(parents=True, exist_ok=True)
        for name in beside:
            target = folder / note_path(name)
            target.parent.mkdir(parents=True, exist_ok=True)
            source = self._runs / attempt / name
            if source.exists() or not target.exists():
                source.rename(target)
        for name, data in notes.items():
            target = folder / note_path(name)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)

    def sync(self, attempt: str) -> None:
        for folder in (self._runs / attempt, self._notes / attempt):
            if folder.exists():  # without rows there is no file, and no folder
                for each in (*folder.rglob("*"), folder, folder.parent):
                    _sync(each)
        _sync(self._root)

    def inventory(self) -> Mapping[str, Sequence[str]]:
        found: dict[str, list[str]] = {}
        for each in self._open.iterdir() if self._open.exists() else ():
            found[each.name] = []
        for folder, before in ((self._runs, ""), (self._notes, f"{NOTES}/")):
            for attempt in folder.iterdir() if folder.exists() else ():
                files = (each for each in attempt.rglob("*") if each.is_file())
                names = [f"{before}{each.relative_to(attempt).as_posix()}" for each in files]
                found[attempt.name] = [*found.get(attempt.name, ()), *names]
        return found

    def note(self, attempt: str, name: str) -> bytes | None:
        with suppress(FileNotFoundError):
            return (self._notes / attempt / note_path(name)).read_bytes()
        return None

    def unpublished(self) -> UnpublishedRuns:
        return UnpublishedFiles(self._root)

    def delete(self, attempt: str, names: Iterable[str]) -> None:
        for name in names:
            (self._runs / attempt / name).unlink(missing_ok=True)
        for folder, inside, _ in os.walk(self._runs / attempt, topdown=False):
            for each in inside:
                with suppress(OSError):  # not empty
                    Path(folder, each).rmdir()

    def remove(self, attempt: str) -> None:
        # Closed first: a task that opens another file must not find the folder while it is emptied.
        self.close(attempt)
        _remove(self._runs / attempt)
        self.remove_notes(attempt)

    def remove_reports(self, attempt: str) -> None:
        folder = self._notes / attempt
        for each in [*folder.iterdir()] if folder.exists() else ():
            if each.is_file():
                each.unlink(missing_ok=True)

    def remove_notes(self, attempt: str) -> None:
        _remove(self._notes / attempt)


def _remove(folder: Path) -> None:
    with suppress(FileNotFoundError):
        shutil.rmtree(folder)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
