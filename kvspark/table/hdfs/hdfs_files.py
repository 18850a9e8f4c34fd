"""The files below one folder of HDFS: all that kvspark asks of the client."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache
from itertools import islice
from typing import Any, final

from kvspark.errors import UsageError
from kvspark.table.hdfs.bounded import bounded
from kvspark.table.hdfs.refusals import line_of, telling
from kvspark.table.objects.storage import Storage

_ATTEMPTS = "dfs.client.failover.max.attempts"
_OF_A_NAMENODE, _OF_A_NAMESERVICE = "6", "12"
"""Repetitions of one request, which take most of a minute for either: as long as another NameNode needs to become the
active one. The client's own default waits for three minutes, and with a nameservice each NameNode that is asked counts."""

_PAGE = 1_000
"""Entries that are asked for at once, as the NameNode sends them."""


@final
@dataclass(frozen=True, slots=True)
class FileStatus:
    """What a listing says of a file or a folder."""

    path: str
    """Below the folder."""
    is_folder: bool
    size_bytes: int
    modified_at: datetime
    """By the clock of the NameNode."""


@final
class HdfsFiles:
    """The files below the folder `storage`, by their paths in it.

    The client reads `core-site.xml` and `hdfs-site.xml` in `HADOOP_CONF_DIR`, and with Kerberos the ticket of the user.

    Raises:
        UsageError: the URL or an option is none that the client knows, or the client is not installed.

    Every method raises OSError where HDFS refuses or does not answer; see `refusals`.

    Source: https://hadoop.apache.org/docs/stable/hadoop-project-dist/hadoop-common/filesystem/filesystem.html
    """

    def __init__(self, storage: Storage) -> None:
        self.url = storage.url
        scheme, _, rest = storage.url.partition("://")
        host, _, folder = rest.partition("/")
        self._root = f"/{folder}" if folder else ""
        patience = {_ATTEMPTS: _OF_A_NAMENODE if ":" in host else _OF_A_NAMESERVICE}
        options = tuple(sorted({**patience, **storage.options}.items()))
        self._client = client_at(f"{scheme}://{host}", options, os.getpid())

    def status(self, path: str) -> FileStatus | None:
        """None if there is nothing."""
        try:
            with self._telling(path):
                return self._status(bounded(lambda: self._client.get_file_info(self._at(path))))
        except FileNotFoundError:
            return None

    def listed(self, folder: str, *, deep: bool = False) -> Iterator[FileStatus]:
        """What is in `folder`, or the file `folder` itself; nothing where it is not there.

        Raises:
            FileNotFoundError: a folder in it was removed meanwhile: what was found may not be all.
        """
        is_there = False
        try:
            with self._telling(folder):
                listing = bounded(lambda: self._client.list_status(self._at(folder), deep))
                while page := bounded(lambda: [*islice(listing, _PAGE)]):
                    is_there = True
                    yield from map(self._status, page)
        except FileNotFoundError:
            if is_there or self.status(folder) is not None:
                raise

    def read(self, path: str) -> bytes:
        """The whole file."""
        with self._telling(path):
            return bytes(bounded(lambda: self._client.read(self._at(path)).read()))

    def reader(self, path: str) -> Any:
        """The client's file for reading; its own methods raise what the client raises."""
        with self._telling(path):
            return bounded(lambda: self._client.read(self._at(path)))

    def writer(self, path: str, *, makes_folders: bool) -> Any:
        """The client's file for writing, a new one. What is there before its `close` is part of a file."""
        from hdfs_native import WriteOptions

        with self._telling(path):
            options = WriteOptions(overwrite=False, create_parent=makes_folders)
            return bounded(lambda: self._client.create(self._at(path), options))

    def write(self, path: str, data: bytes) -> None:
        """Makes a new file, and the folders that it needs; not in one step."""
        writer = self.writer(path, makes_folders=True)
        with self._telling(path):
            if data:
                bounded(lambda: writer.write(data))
            bounded(writer.close)

    def make_folder(self, path: str, *, makes_folders: bool = True) -> None:
        """Does nothing if it is there. Without `makes_folders` the folder above must be there."""
        with self._telling(path):
            bounded(lambda: self._client.mkdirs(self._at(path), create_parent=makes_folders))

    def move(self, path: str, to: str, *, replaces: bool = False) -> None:
        """Renames a file or a folder, in one step.

        Raises:
            FileExistsError: something is at `to`, and it does not replace it.
            FileNotFoundError: there is no `path`, or no folder for `to`.
            OSError: HDFS does not answer; it may have done it.
        """
        with self._telling(to):
            bounded(lambda: self._client.rename(self._at(path), self._at(to), overwrite=replaces))

    def delete(self, path: str) -> None:
        """Removes a file, or a folder and all that is in it, in one step; it need not be there."""
        with self._telling(path):
            bounded(lambda: self._client.delete(self._at(path), recursive=True))

    def _telling(self, path: str) -> Any:
        return telling(f"{self.url}/{path}" if path else self.url)

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root or "/"

    def _status(self, status: Any) -> FileStatus:
        path = str(status.path)
        return FileStatus(
            path.removeprefix(self._root).lstrip("/"),
            bool(status.isdir),
            int(status.length),
            datetime.fromtimestamp(status.modification_time / 1000, timezone.utc),
        )


@lru_cache(maxsize=64)
def client_at(url: str, options: tuple[tuple[str, str], ...], process: int) -> Any:
    """The client for the NameNode of `url`, in this process: its threads are not in one that was forked.

    Raises:
        UsageError: as `HdfsFiles`.
    """
    del process
    try:
        from hdfs_native import Client
    except ImportError:
        raise UsageError(
            f"{url} needs a client of HDFS, which is not installed; pip install 'kvspark[hdfs]'"
        ) from None
    try:
        return Client(url, dict(options))
    except (RuntimeError, ValueError, OSError) as exc:
        raise UsageError(
            f"{url} names no HDFS ({line_of(exc)}); write hdfs://NAMENODE:PORT/FOLDER, or set HADOOP_CONF_DIR to the folder "
            "of the hdfs-site.xml that says what this name is"
        ) from None
