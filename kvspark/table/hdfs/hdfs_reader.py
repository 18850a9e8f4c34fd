"""A file of HDFS that is read at any place."""

from __future__ import annotations

import io
from typing import final

from kvspark.table.hdfs.bounded import bounded
from kvspark.table.hdfs.hdfs_files import HdfsFiles
from kvspark.table.hdfs.refusals import telling


@final
class HdfsReader:
    """Reads the file `path` of `files`, as the readers of other objects do.

    Its methods raise OSError where HDFS refuses or does not answer.
    """

    def __init__(self, files: HdfsFiles, path: str) -> None:
        self._what = f"{files.url}/{path}"
        self._reader = files.reader(path)
        self.size = int(self._reader.size)
        """Bytes of the file."""
        self._at = 0

    def read(self, size: int | None = None) -> bytes:
        """The next bytes: as many as there are, or `size` of them."""
        left = max(0, self.size - self._at)
        wanted = left if size is None else min(size, left)
        if not wanted:
            return b""
        with telling(self._what):
            data = bytes(bounded(lambda: self._reader.read_range(self._at, wanted)))
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Where the next read begins."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        """Where the next read begins."""
        return self._at
