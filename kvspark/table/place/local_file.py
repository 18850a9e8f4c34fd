"""A file on a disk, on its way there while it is written."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import final

import pyarrow as pa

_AHEAD_BYTES = 16 << 20
"""After so much the disk is asked to begin: what it has by the end, the driver's fsync does not wait for (ADR 0088)."""


@final
class LocalFile:
    """A new file, written front to back; it replaces one of its name."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("wb", buffering=0)
        self._written = 0
        self._begun = 0
        """Up to here the disk was asked to begin."""

    def write(self, data: bytes | pa.Buffer) -> None:
        """Adds `data`.

        Raises:
            OSError: the disk is full, or refuses.
        """
        left = memoryview(data).cast("B")
        while left:
            count = self._file.write(left)
            left = left[count:]
            self._written += count
        if self._written - self._begun >= _AHEAD_BYTES:
            self._begin()

    def flush(self) -> None:
        """Does nothing: nothing is held back here."""

    def close(self) -> None:
        """Makes the file complete.

        Raises:
            OSError: the disk refuses.
        """
        if not self._file.closed:
            self._begin()
        self._file.close()

    def abandon(self) -> None:
        """Leaves nothing of the file."""
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self._path.unlink()

    def _begin(self) -> None:
        # Linux writes the pages that it is told not to keep, and keeps those that it has yet to write:
        # https://man7.org/linux/man-pages/man2/posix_fadvise.2.html
        if hasattr(os, "posix_fadvise"):
            size = self._written - self._begun
            with suppress(OSError):  # it was advice
                os.posix_fadvise(self._file.fileno(), self._begun, size, os.POSIX_FADV_DONTNEED)
        self._begun = self._written
