"""The place of a target: a folder takes it in one step, and what had it is kept.

Swaps the two folders where the system can (`exchange`), else renames twice; what had the place is settled
afterwards, by this run or, if it dies, by the next.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import final

from kvspark.fault import fault_point
from kvspark.spark.output.manifest import read_manifest
from kvspark.spark.output.versions import Versions

log = logging.getLogger(__name__)

_PREVIOUS = "previous"
_DISPLACED = "displaced"


@final
class Place:
    """The name `path`; `folder` is the target's own folder beside it. Only under the target's lock."""

    def __init__(
        self,
        path: Path,
        folder: Path,
        versions: Versions,
        exchange: Callable[[Path, Path], bool],
    ) -> None:
        self._path = path
        self._folder = folder
        self._versions = versions
        self.exchange = exchange
        self.is_taken = False
        """True once what was to take it has."""

    def recover(self) -> None:
        """Puts what had the place where it is kept, and back if nothing has it: a run died meanwhile."""
        previous = self._folder / _PREVIOUS
        if previous.is_dir() and not self._path.exists():
            previous.rename(self._path)
            log.warning("a run died while it published to %s: its old output is back", self._path)
        displaced = self._folder / _DISPLACED
        for item in [previous, *(sorted(displaced.iterdir()) if displaced.is_dir() else ())]:
            if item.exists():
                self._settle(item)

    def take(self, folder: Path, name: str) -> None:
        """Gives the place to `folder`; `name` is its own until it has it, and of no other.

        Raises:
            OSError: the file system refused; `is_taken` says whether it has the place.
        """
        if not _is_occupied(self._path):
            folder.rename(self._path)
            self._took()
            fault_point("moved_in")
            return
        place = self._folder / _DISPLACED / name
        place.parent.mkdir(exist_ok=True)
        folder.rename(place)
        fault_point("placed")
        try:
            displaced = self._swap(place)
        except OSError:
            place.rename(folder)
            self._tidy()
            raise
        self._took()
        try:
            self._settle(displaced)
        except OSError as exc:
            log.warning("%s stays there until the next run (%s)", displaced, exc.strerror)
        fault_point("settled")

    def _swap(self, place: Path) -> Path:
        """Where the old output is, now that what was in `place` is the target."""
        if self.exchange(place, self._path):
            fault_point("exchanged")
            return place
        previous = self._folder / _PREVIOUS
        self._path.rename(previous)
        fault_point("moved_aside")
        try:
            place.rename(self._path)
        except OSError:
            previous.rename(self._path)
            raise
        fault_point("moved_in")
        return previous

    def _took(self) -> None:
        self.is_taken = True
        sync(self._path.parent)

    def _settle(self, displaced: Path) -> None:
        manifest = read_manifest(displaced)
        if manifest is not None and manifest.attempt == displaced.name:
            # A run died before this became the target. Its name says so before it is half deleted.
            displaced.rename(self._folder / displaced.name)
        else:
            self._versions.settle(displaced)
        self._tidy()

    def _tidy(self) -> None:
        with contextlib.suppress(OSError):
            (self._folder / _DISPLACED).rmdir()


def sync(path: Path) -> None:
    """Returns when the file or the folder is on disk; of a folder, the names in it.

    Raises:
        OSError: the disk does not say so.
    """
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _is_occupied(path: Path) -> bool:
    return path.exists() and next(path.iterdir(), None) is not None
