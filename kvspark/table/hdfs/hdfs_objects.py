"""Files of HDFS as objects: each appears whole, by a rename, and some are written on a condition."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import final

from kvspark.table.hdfs.hdfs_files import FileStatus, HdfsFiles
from kvspark.table.hdfs.hdfs_reader import HdfsReader
from kvspark.table.hdfs.swapped_value import SwappedValue
from kvspark.table.objects.objects import Listed, ObjectChangedError, Objects, Stored
from kvspark.table.objects.storage import Storage

_ASIDE = ".aside-"


@final
class HdfsObjects(Objects):
    """The files below one folder of HDFS.

    Raises:
        UsageError: as `HdfsFiles`.
    """

    def __init__(self, storage: Storage) -> None:
        self._files = HdfsFiles(storage)
        self._open: tuple[str, str, HdfsReader] | None = None

    @property
    def url(self) -> str:
        return self._files.url

    def get(self, name: str) -> Stored | None:
        return SwappedValue(self._files, name).read()

    def size_bytes(self, name: str) -> int | None:
        status = self._files.status(name)
        return None if status is None or status.is_folder else status.size_bytes

    def stat(self, name: str) -> Listed | None:
        status = self._files.status(name)
        return None if status is None or status.is_folder else _listed(status)

    def part(self, name: str, start: int, end: int, tag: str) -> bytes:
        if self._open is None or self._open[:2] != (name, tag):
            reader = self.reader(name)
            # Asked only now: the blocks that the reader knows are those of the version that still has the tag.
            found = self.stat(name)
            if found is None or found.tag != tag:
                raise ObjectChangedError(
                    f"{self.url}/{name} was written after the run had found it"
                )
            self._open = name, tag, reader
        reader = self._open[2]
        reader.seek(start)
        return reader.read(end - start)

    def put(self, name: str, data: bytes) -> None:
        aside = f"{name}{_ASIDE}{secrets.token_hex(4)}"
        try:
            self._files.write(aside, data)
            self._files.move(aside, name, replaces=True)
        except OSError:
            # It may have come through, and only its answer was lost.
            if self._files.status(name) is None or self._files.read(name) != data:
                raise

    def put_if(self, name: str, data: bytes, tag: str | None) -> str:
        return SwappedValue(self._files, name).write(data, tag)

    def delete(self, names: Sequence[str]) -> None:
        for name in names:
            self._files.delete(name)

    def delete_folder(self, folder: str) -> None:
        self._files.delete(folder)

    def delete_folders(self, folders: Mapping[str, Collection[str]]) -> None:
        for folder in folders:
            self._files.delete(folder)

    def listed(self, folder: str = "") -> Iterator[Listed]:
        for each in self._files.listed(folder, deep=True):
            if not each.is_folder:
                yield _listed(each)

    def folders(self, folder: str) -> list[str]:
        found = self._files.listed(folder)
        return sorted(each.path.rpartition("/")[2] for each in found if each.is_folder)

    def reader(self, name: str) -> HdfsReader:
        return HdfsReader(self._files, name)


def _listed(status: FileStatus) -> Listed:
    # A file that is written again, or longer, is so at another millisecond of the NameNode.
    tag = f"{round(status.modified_at.timestamp() * 1000)}-{status.size_bytes}"
    return Listed(status.path, status.size_bytes, status.modified_at, tag)
