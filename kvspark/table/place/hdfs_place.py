"""A folder of HDFS, as a place for tasks."""

from __future__ import annotations

import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, final

import pyarrow as pa

from kvspark.table.hdfs.bounded import bounded
from kvspark.table.hdfs.hdfs_files import HdfsFiles
from kvspark.table.hdfs.refusals import telling
from kvspark.table.objects.storage import Storage
from kvspark.table.place.place import OpenedPlace, OutputFile

_OPEN = "_kvspark/open"
"""The folder in which files are as long as they are written; it is there as long as tasks may write."""

_WAITING_BYTES = 1 << 20
"""What leaves at once: pyarrow writes some bytes at a time, and each call of the client is waited for in a thread."""


@final
@dataclass(frozen=True, slots=True)
class HdfsPlace(OpenedPlace):
    """The files below `storage`.

    A file is written aside, and comes to its place by a rename, whole. All that is aside goes in the one step that
    closes the place: from then on no file can come, however slow its task is.
    """

    storage: Storage

    @property
    def url(self) -> str:
        return self.storage.url

    def open(self) -> None:
        HdfsFiles(self.storage).make_folder(_OPEN)

    def close(self) -> None:
        HdfsFiles(self.storage).delete(_OPEN)

    def path(self, name: str, folder: str) -> str:
        return f"{folder}/{name}" if folder else name

    def create(self, path: str) -> OutputFile:
        return _HdfsFile(HdfsFiles(self.storage), path)

    def delete(self, path: str) -> None:
        HdfsFiles(self.storage).delete(path)


@final
class _HdfsFile:
    def __init__(self, files: HdfsFiles, path: str) -> None:
        self._files = files
        self._path = path
        self._aside = f"{_OPEN}/{secrets.token_hex(8)}"
        self._size_bytes = 0
        self._waiting = bytearray()
        try:
            self._writer: Any = files.writer(self._aside, makes_folders=False)
        except FileNotFoundError:
            raise self._ended() from None

    def write(self, data: bytes | pa.Buffer) -> None:
        self._waiting += memoryview(data).cast("B")
        if len(self._waiting) >= _WAITING_BYTES:
            self._send()

    def flush(self) -> None:
        """Nothing: what waits leaves when it is enough."""

    def close(self) -> None:
        try:
            self._send()
            with telling(f"{self._files.url}/{self._path}"):
                bounded(self._writer.close)
            # Each by itself: the folder of a run that was removed is not to come back.
            for folder in reversed(PurePosixPath(self._path).parents[:-1]):
                self._files.make_folder(str(folder), makes_folders=False)
            self._files.move(self._aside, self._path)
        except OSError as exc:
            # It may have come through, and only its answer was lost: nobody else writes a file of this name.
            there = self._files.status(self._path)
            if there is None or there.size_bytes != self._size_bytes:
                raise (self._ended() if isinstance(exc, FileNotFoundError) else exc) from None

    def abandon(self) -> None:
        with suppress(OSError):
            self._files.delete(self._aside)
        # Last: the client completes a file that is dropped, if it is there.
        self._writer = None

    def _send(self) -> None:
        data, self._waiting = self._waiting, bytearray()
        if data:
            with telling(f"{self._files.url}/{self._path}"):
                bounded(lambda: self._writer.write(data))
            self._size_bytes += len(data)

    def _ended(self) -> FileNotFoundError:
        return FileNotFoundError(
            f"{self._files.url}/{self._path}: the run that wrote here has ended"
        )
