"""Files of HDFS as objects: each appears whole, by a rename, and some are written on a condition."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from typing import final

from kvspark.table.hdfs.hdfs_files import HdfsFiles
from kvspark.table.hdfs.hdfs_reader import HdfsReader
from kvspark.table.hdfs.swapped_value import SwappedValue
from kvspark.table.objects.objects import Listed, Objects, Stored
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

    @property
    def url(self) -> str:
        return self._files.url

    def get(self, name: str) -> Stored | None:
        return SwappedValue(self._files, name).read()

    def size_bytes(self, name: str) -> int | None:
        status = self._files.status(name)
        return None if status is None or status.is_folder else status.size_bytes

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

    def listed(self, folder: str = "") -> Iterator[Listed]:
        for each in self._files.listed(folder, deep=True):
            if not each.is_folder:
                yield Listed(each.path, each.size_bytes, each.modified_at)

    def folders(self, folder: str) -> list[str]:
        found = self._files.listed(folder)
        return sorted(each.path.rpartition("/")[2] for each in found if each.is_folder)

    def reader(self, name: str) -> HdfsReader:
        return HdfsReader(self._files, name)
