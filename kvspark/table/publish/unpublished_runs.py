"""What is kept of runs that published nothing, beside a table that has no folder next to it: a small file for each.

    <url>/_kvspark/unpublished/<digest of the line>.json

No reader of the table looks there, no run needs a lock to add one, and to add one twice is to add it once. The next run
that publishes has the lines in its history, and drops them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import final

from kvspark.fingerprint import digest
from kvspark.table.objects.objects import Objects

FOLDER = "_kvspark/unpublished"
MOST = 100
"""A job that fails each minute must not fill a store."""
_SUFFIX = ".json"


class UnpublishedRuns(ABC):
    """Lines of text, none of them twice, `MOST` at most.

    All methods raise OSError where the file system or the store refuses.
    """

    def add(self, line: str) -> None:
        """Keeps `line`, and of the others the newest."""
        self._write(_name(line), line.encode())
        for name in self._names()[MOST:]:
            self._remove(name)

    def lines(self) -> list[str]:
        """All that are kept, in no order."""
        found = (self._read(name) for name in self._names()[:MOST])
        return [data.decode("utf-8", "replace") for data in found if data]

    def drop(self, lines: Iterable[str]) -> None:
        """Removes `lines`; none need be there."""
        for line in lines:
            self._remove(_name(line))

    @abstractmethod
    def _names(self) -> list[str]:
        """The newest first."""

    @abstractmethod
    def _read(self, name: str) -> bytes | None:
        """None if it is gone."""

    @abstractmethod
    def _write(self, name: str, data: bytes) -> None:
        """Makes the file, whatever was there."""

    @abstractmethod
    def _remove(self, name: str) -> None:
        """It need not be there."""


@final
class UnpublishedObjects(UnpublishedRuns):
    """In the store of a table."""

    def __init__(self, store: Objects) -> None:
        self._store = store

    def _names(self) -> list[str]:
        found = [each for each in self._store.listed(FOLDER) if each.name.endswith(_SUFFIX)]
        newest = sorted(found, key=lambda each: each.modified_at, reverse=True)
        return [each.name.rpartition("/")[2] for each in newest]

    def _read(self, name: str) -> bytes | None:
        stored = self._store.get(f"{FOLDER}/{name}")
        return None if stored is None else stored.data

    def _write(self, name: str, data: bytes) -> None:
        self._store.put(f"{FOLDER}/{name}", data)

    def _remove(self, name: str) -> None:
        self._store.delete([f"{FOLDER}/{name}"])


@final
class UnpublishedFiles(UnpublishedRuns):
    """In the folder of a table, which is there."""

    def __init__(self, root: Path) -> None:
        self._folder = root / FOLDER

    def _names(self) -> list[str]:
        found = sorted(self._folder.glob(f"*{_SUFFIX}"), key=lambda path: -path.stat().st_mtime_ns)
        return [path.name for path in found]

    def _read(self, name: str) -> bytes | None:
        path = self._folder / name
        return path.read_bytes() if path.exists() else None

    def _write(self, name: str, data: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / name).write_bytes(data)

    def _remove(self, name: str) -> None:
        (self._folder / name).unlink(missing_ok=True)


def _name(line: str) -> str:
    return f"{digest('kvspark run line', line).hex()[:32]}{_SUFFIX}"
