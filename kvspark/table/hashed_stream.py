"""Bytes on their way to a file, counted and hashed."""

from __future__ import annotations

import hashlib
from typing import final

import pyarrow as pa


@final
class HashedStream:
    """A file that pyarrow writes to, front to back."""

    def __init__(self, file: pa.NativeFile) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._written = 0

    @property
    def closed(self) -> bool:
        """True once nothing more can be written."""
        return bool(self._file.closed)

    @property
    def sha256(self) -> str:
        """Of what was written so far, in hex."""
        return self._hash.hexdigest()

    def write(self, data: bytes | pa.Buffer) -> int:
        """The bytes of `data`, which are written."""
        view = memoryview(data)
        self._file.write(data)
        self._hash.update(view)
        self._written += view.nbytes
        return view.nbytes

    def tell(self) -> int:
        """How many bytes were written."""
        return self._written

    def flush(self) -> None:
        """Hands what is written on to the file system."""
        self._file.flush()

    def close(self) -> None:
        """Ends the file."""
        self._file.close()
