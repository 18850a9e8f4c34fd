"""Names of an object store that begin alike, as a place for tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import pyarrow as pa

from kvspark.table.objects.object_store import ObjectStore
from kvspark.table.objects.storage import Storage
from kvspark.table.place.place import OpenedPlace, OutputFile

OPEN_NAME = "_kvspark/open"
"""An object that is there as long as tasks may write."""


@final
@dataclass(frozen=True, slots=True)
class ObjectPlace(OpenedPlace):
    """The objects below `storage`.

    An object appears when its file is closed, whole. It is not closed where the driver has closed the place.
    """

    storage: Storage

    @property
    def url(self) -> str:
        return self.storage.url

    def open(self) -> None:
        ObjectStore(self.storage).put(OPEN_NAME, b"")

    def close(self) -> None:
        ObjectStore(self.storage).delete([OPEN_NAME])

    def path(self, name: str, folder: str) -> str:
        return f"{folder}/{name}" if folder else name

    def create(self, path: str) -> OutputFile:
        store = ObjectStore(self.storage)
        _check_open(store, path)
        return _ObjectFile(store, path)

    def delete(self, path: str) -> None:
        ObjectStore(self.storage).delete([path])


@final
class _ObjectFile:
    def __init__(self, store: ObjectStore, name: str) -> None:
        self._store = store
        self._name = name
        self._writer: Any = store.writer(name)

    def write(self, data: bytes | pa.Buffer) -> None:
        with self._store.telling(self._name):
            self._writer.write(memoryview(data).cast("B"))

    def flush(self) -> None:
        """Nothing: parts leave when they are large enough."""

    def close(self) -> None:
        # Asked last: what is closed late by a task that nobody waits for would be read.
        _check_open(self._store, self._name)
        with self._store.telling(self._name):
            self._writer.close()

    def abandon(self) -> None:
        # An upload that nobody completes is no object.
        self._writer = None


def _check_open(store: ObjectStore, name: str) -> None:
    if store.size_bytes(OPEN_NAME) is None:
        raise FileNotFoundError(f"{store.url}/{name}: the run that wrote here has ended")
