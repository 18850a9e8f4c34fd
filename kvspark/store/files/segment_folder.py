"""Where segments are: names and bytes of files, through pyarrow's file systems."""

from __future__ import annotations

import errno
import secrets
from datetime import datetime, timezone
from typing import Any, final

import pyarrow as pa
from pyarrow import fs

from kvspark.errors import StoreError, StoreFullError, StoreRefusedError, StoreUnavailableError
from kvspark.table.hdfs.refusals import TakesNoWritesError

SUFFIX = ".kvseg"
_HDFS = "hdfs://"
_SHOWS_PARTS = ("local", "py::hdfs")
"""The file systems, as pyarrow calls them, in which others see a file before all of it is there."""


@final
class Folder:
    """Where segments are; knows nothing of what is in a segment."""

    def __init__(self, files: fs.FileSystem, path: str, *, url: str) -> None:
        self._files = files
        self._path = path
        self._url = url

    @classmethod
    def at(cls, url: str) -> Folder:
        """The folder at `url`, for example `file:///PATH`, `s3://BUCKET/PATH` or `hdfs://NAMESERVICE/PATH`.

        Raises:
            ValueError: pyarrow knows no such file system, or it cannot be opened.
            UsageError: HDFS has a client of its own, which is not installed or knows no such place.
        """
        if url.startswith(_HDFS):
            from kvspark.table.hdfs.hdfs_filesystem import hdfs_filesystem
            from kvspark.table.objects.storage import Storage

            host, _, path = url.removeprefix(_HDFS).partition("/")
            if not (host and path.strip("/")):
                raise ValueError(f"{url} names no folder of HDFS")
            return cls(hdfs_filesystem(Storage(url.rstrip("/"))), "", url=url)
        try:
            files, path = fs.FileSystem.from_uri(url)
        except (pa.ArrowException, ValueError, OSError) as exc:
            raise ValueError(f"{url} is no folder that pyarrow can reach: {exc}") from exc
        return cls(files, path, url=url)

    def __str__(self) -> str:
        return self._url

    def make(self) -> None:
        """Makes the folder unless it is there."""
        self._files.create_dir(self._path, recursive=True)

    def names(self) -> list[str]:
        """All segments, the newest first."""
        chosen = fs.FileSelector(self._path, allow_not_found=True)
        infos = self._files.get_file_info(chosen)
        return sorted((each.base_name for each in infos if _is_segment(each)), reverse=True)

    def opened(self, name: str) -> Any:
        """The file of a segment, for reading anywhere in it."""
        return self._files.open_input_file(f"{self._path}/{name}")

    def write(self, name: str, payload: bytes) -> None:
        """Makes a segment, which is there whole or not at all."""
        self.make()
        target = f"{self._path}/{name}"
        # An object appears when it is closed; a file must be moved to where it is looked for.
        aside = f"{target}.part" if self._files.type_name in _SHOWS_PARTS else target
        with self._files.open_output_stream(aside) as stream:
            stream.write(payload)
        if aside != target:
            self._files.move(aside, target)

    def try_writing(self) -> None:
        """Returns if files can be made and removed here; what is made is no segment.

        Raises:
            OSError: they cannot.
        """
        self.make()
        path = f"{self._path}/.{secrets.token_hex(8)}"
        with self._files.open_output_stream(path) as stream:
            stream.write(b"kvspark doctor")
        self._files.delete_file(path)

    def remove(self, name: str) -> None:
        """Deletes a segment."""
        self._files.delete_file(f"{self._path}/{name}")


def new_name(after_ns: int = 0) -> str:
    """The name of a segment that is newer than all before it."""
    now_ns = max(after_ns + 1, int(datetime.now(timezone.utc).timestamp() * 1e9))
    return f"{now_ns:020d}-{secrets.token_hex(4)}{SUFFIX}"


def now_ms() -> int:
    """Milliseconds since 1970."""
    return round(datetime.now(timezone.utc).timestamp() * 1_000)


def _is_segment(info: Any) -> bool:
    return bool(info.is_file and info.base_name.endswith(SUFFIX))


def store_error(exc: Exception, place: object) -> StoreError:
    """The store's error for `exc`, which came from a file system."""
    if isinstance(exc, StoreError):
        return exc
    number = getattr(exc, "errno", None)
    said = f"{type(exc).__name__}{f' {errno.errorcode.get(number, number)}' if number else ''}"
    if isinstance(exc, PermissionError):
        return StoreRefusedError(f"{place} refuses us: {said}")
    is_full = number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
    if is_full or isinstance(exc, TakesNoWritesError):
        return StoreFullError(f"{place} takes no writes: {said}")
    error = StoreUnavailableError(f"{place} did not answer: {said}")
    error.__cause__ = exc
    return error
