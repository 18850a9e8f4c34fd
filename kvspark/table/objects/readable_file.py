"""What a client of a store reads with, as a file of Arrow."""

from __future__ import annotations

import io
from typing import Any, final

import pyarrow as pa


def readable_file(reader: Any) -> pa.PythonFile:
    """The file that `reader` reads; it has `tell`, `seek`, `read` (None for all that is left) and `size`."""
    return pa.PythonFile(_Readable(reader), mode="r")


@final
class _Readable(io.RawIOBase):
    """A reader of a client as Python's files are."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return int(self._reader.tell())

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._reader.seek(offset, whence))

    def read(self, size: int = -1) -> bytes:
        return bytes(self._reader.read(None if size < 0 else size))

    def size(self) -> int:
        """Bytes of the file."""
        return int(self._reader.size)
