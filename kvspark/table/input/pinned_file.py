"""A file of an input as it was found, wherever it is: who reads it later gets these bytes or an error."""

from __future__ import annotations

import io
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import pyarrow as pa

from kvspark.fingerprint import digest
from kvspark.table.objects.objects import ObjectChangedError
from kvspark.table.objects.storage import Storage
from kvspark.table.place.opening import open_objects


class PinnedFile(ABC):
    """One file; a value that travels to workers."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Its path or URL."""

    @property
    @abstractmethod
    def identity(self) -> tuple[str | int, ...]:
        """What is equal for equal bytes under one name."""

    @abstractmethod
    def open(self) -> pa.NativeFile:
        """The file, to be read at any place.

        Raises:
            OSError: it is not there any more, has changed, or cannot be read; also when it is read.
        """


@final
@dataclass(frozen=True, slots=True)
class PinnedObject(PinnedFile):
    """An object of `bucket`; each request asks for the version that was found."""

    bucket: Storage
    key: str
    size_bytes: int
    tag: str

    @property
    def name(self) -> str:
        return f"{self.bucket.url}/{self.key}"

    @property
    def identity(self) -> tuple[str | int, ...]:
        return (self.name, self.size_bytes, self.tag)

    def open(self) -> pa.NativeFile:
        return pa.PythonFile(_Reader(self), mode="r")


_UNITS_NS = (100, 1_000, 1_000_000, 1_000_000_000)
"""In which servers keep times: NTFS, NFS and SMB over file systems with microseconds, milliseconds or seconds."""


@final
@dataclass(frozen=True, slots=True)
class PinnedPath(PinnedFile):
    """A file that driver and workers reach by one path."""

    path: str
    size_bytes: int
    modified_ns: int

    @classmethod
    def at(cls, path: Path) -> PinnedPath:
        """The file at `path` as it is now."""
        status = path.stat()
        return cls(str(path), status.st_size, status.st_mtime_ns)

    @property
    def name(self) -> str:
        return self.path

    @property
    def identity(self) -> tuple[str | int, ...]:
        return (self.path, self.size_bytes, self.modified_ns)

    def is_as_found(self) -> bool:
        """True if the file has the size and the time that it had when it was found.

        Raises:
            OSError: it cannot be looked at; FileNotFoundError: it is gone.
        """
        now = PinnedPath.at(Path(self.path))
        is_one_time = _is_one_time(now.modified_ns, self.modified_ns)
        return now.size_bytes == self.size_bytes and is_one_time

    def open(self) -> pa.NativeFile:
        if not self.is_as_found():
            raise ObjectChangedError(f"{self.path} was written after the run had found it")
        return pa.OSFile(self.path)


def _is_one_time(one_ns: int, other_ns: int) -> bool:
    """True if the times are equal, or one is the other in whole units.

    A machine that has just written to a shared folder may know more digits of the time than the server keeps, which is all
    that others see, and it too later on.
    """
    apart = abs(one_ns - other_ns)
    return not apart or any(
        apart < unit and 0 in (one_ns % unit, other_ns % unit) for unit in _UNITS_NS
    )


def digest_of(files: Sequence[PinnedFile]) -> str:
    """One text for these files as they were found, whatever their order, in hex."""
    return digest("kvspark input", sorted(list(file.identity) for file in files)).hex()


@final
class _Reader(io.RawIOBase):
    """The ranges of an object, each a request of its own: who reads Parquet asks for whole column chunks."""

    def __init__(self, file: PinnedObject) -> None:
        self._file = file
        self._store = open_objects(file.bucket)
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        begins = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._file.size_bytes}
        self._place = begins[whence] + offset
        return self._place

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._file.size_bytes - self._place)
        size = left if size < 0 else min(size, left)
        if not size:
            return b""
        start, self._place = self._place, self._place + size
        return self._store.part(self._file.key, start, start + size, self._file.tag)

    def size(self) -> int:
        """Bytes of the object."""
        return self._file.size_bytes
