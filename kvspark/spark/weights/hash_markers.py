"""What was checked on this host, so that a file of 90 MB is hashed once and not by every worker.

For each checked file there is an empty one, the marker, whose name is a digest of what was found:

    <digest of (sha256, device, inode, size, time of content, time of inode)>.checked

A file that was written to, replaced or touched since has no marker, and is hashed again. The time of
the inode is what a program cannot set, so that new content cannot hide behind an old date. What
is trusted is the folder of the markers, which belongs to this user alone, and the clocks: a file that
changed a moment ago gets no marker yet, since a further change might not show in its times.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import final

from kvspark.fingerprint import Canonical, digest, file_sha256

MARKER = ".checked"

_TICKS_NS = 2_000_000_000
"""The coarsest times of a file system in use (FAT, some NFS servers): 2 s."""


@final
class Verified:
    """The markers of one folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def holds(self, path: Path, sha256: str) -> bool:
        """True if the file at `path` has this SHA-256 (hex), by its marker or else by its bytes.

        Raises:
            OSError: the file cannot be read.
        """
        before = path.stat()
        marker = self._marker(before, sha256)
        if _touched(marker):
            return True
        if file_sha256(path) != sha256 or self._marker(path.stat(), sha256) != marker:
            return False
        if time.time_ns() - max(before.st_mtime_ns, before.st_ctime_ns) > _TICKS_NS:
            _make(marker)
        return True

    def note(self, path: Path, sha256: str) -> None:
        """Marks a file that the caller has checked and that nobody else can change."""
        _make(self._marker(path.stat(), sha256))

    def used_s(self, path: Path) -> float:
        """When the file at `path`, whose name is its SHA-256, was asked for last."""
        status = path.stat()
        try:
            return self._marker(status, path.name).stat().st_mtime
        except FileNotFoundError:
            return status.st_mtime

    def _marker(self, status: os.stat_result, sha256: str) -> Path:
        found: Canonical = [
            sha256,
            status.st_dev,
            status.st_ino,
            status.st_size,
            status.st_mtime_ns,
            status.st_ctime_ns,
        ]
        return self._root / (digest("kvspark.verified", found).hex() + MARKER)


def _make(marker: Path) -> None:
    # Without it the next worker hashes the file again: nothing that a full disk must fail.
    with suppress(OSError):
        marker.touch(mode=0o600)


def _touched(marker: Path) -> bool:
    try:
        os.utime(marker)
    except FileNotFoundError:
        return False
    return True
