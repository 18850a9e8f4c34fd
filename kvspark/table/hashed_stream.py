"""Bytes on their way to a file, counted and hashed."""

from __future__ import annotations

import hashlib
from typing import final

import pyarrow as pa

from kvspark.table.place.place import OutputFile


@final
class HashedStream:
    """A file that pyarrow writes to, front to back."""

    def __init__(self, file: OutputFile) -> None:
        self._file = file
        self._is_closed = False
        self._is_abandoned = False
        self._hash = hashlib.sha256()
        self._written = 0

    @property
    def closed(self) -> bool:
        """True once nothing more can be written."""
        return self._is_closed

    @property
    def sha256(self) -> str:
        """Of what was written so far, in hex."""
        return self._hash.hexdigest()

    def write(self, data: bytes | pa.Buffer) -> int:
        """The bytes of `data`, which are written."""
        view = memoryview(data)
        if self._is_abandoned:
            return view.nbytes
        self._file.write(data)
        self._hash.update(view)
        self._written += view.nbytes
        return view.nbytes

    def tell(self) -> int:
        """How many bytes were written."""
        return self._written

    def flush(self) -> None:
        """Hands what is written on."""
        if not self._is_abandoned:
            self._file.flush()

    def close(self) -> None:
        """Makes the file complete."""
        if not self._is_closed:
            self._is_closed = True
            self._file.close()

    def abandon(self) -> None:
        """Leaves nothing of the file; what is written later goes nowhere."""
        self._is_closed = self._is_abandoned = True
        self._file.abandon()
