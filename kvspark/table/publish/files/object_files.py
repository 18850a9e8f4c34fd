"""The files of a table in an object store, where nothing can be renamed: each is written where it stays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import final

from kvspark.table.objects.object_store import ObjectStore
from kvspark.table.objects.storage import Storage
from kvspark.table.place.object_place import OPEN_NAME, ObjectPlace
from kvspark.table.place.place import Place
from kvspark.table.place.split_place import SplitPlace
from kvspark.table.publish.files.table_files import NOTES, RUNS, TableFiles, note_path
from kvspark.table.publish.object_lock import ObjectLock
from kvspark.table.publish.unpublished_runs import UnpublishedObjects, UnpublishedRuns


@final
class ObjectFiles(TableFiles):
    """The objects below one URL."""

    def __init__(self, storage: Storage, *, runs: str = RUNS) -> None:
        self._storage = storage
        self._runs = runs
        self._store = ObjectStore(storage)

    @property
    def url(self) -> str:
        return self._storage.url

    @property
    def runs(self) -> str:
        return self._runs

    def lock(self, run_id: str) -> ObjectLock:
        return ObjectLock(self._store, run_id)

    def stray(self) -> str | None:
        for each in self._store.listed():
            if each.name.partition("/")[0] not in {NOTES, RUNS}:
                return each.name
        return None

    def open(self, attempt: str) -> Place:
        for folder in self._folders(attempt):
            self._store.put(f"{folder}/{OPEN_NAME}", b"")
        rows, beside = (ObjectPlace(self._storage.below(each)) for each in self._folders(attempt))
        return SplitPlace(rows, beside)

    def close(self, attempt: str) -> None:
        self._store.delete([f"{folder}/{OPEN_NAME}" for folder in self._folders(attempt)])

    def sizes(self, attempt: str) -> Mapping[str, int]:
        rows, beside = self._folders(attempt)
        found = {
            each.name.removeprefix(f"{rows}/"): each.size_bytes for each in self._store.listed(rows)
        }
        for each in self._store.listed(beside):
            found[f"{NOTES}/{each.name.removeprefix(f'{beside}/')}"] = each.size_bytes
        return found

    def settle(self, attempt: str, beside: Iterable[str], notes: Mapping[str, bytes]) -> None:
        del beside  # written where it stays
        for name, data in notes.items():
            self._store.put(f"{self._folders(attempt)[1]}/{note_path(name)}", data)

    def sync(self, attempt: str) -> None:
        """Nothing: an object is durable once it is there."""

    def inventory(self) -> Mapping[str, Sequence[str]]:
        found: dict[str, list[str]] = {}
        for folder, before in ((self._runs, ""), (f"{NOTES}/{RUNS}", f"{NOTES}/")):
            for each in self._store.listed(folder):
                attempt, _, name = each.name.removeprefix(f"{folder}/").partition("/")
                found.setdefault(attempt, []).append(f"{before}{name}")
        return found

    def note(self, attempt: str, name: str) -> bytes | None:
        stored = self._store.get(f"{self._folders(attempt)[1]}/{note_path(name)}")
        return None if stored is None else stored.data

    def unpublished(self) -> UnpublishedRuns:
        return UnpublishedObjects(self._store)

    def delete(self, attempt: str, names: Iterable[str]) -> None:
        rows, beside = self._folders(attempt)
        is_beside = {name: name.startswith(f"{NOTES}/") for name in names}
        paths = [f"{beside}/{note_path(n)}" if is_beside[n] else f"{rows}/{n}" for n in is_beside]
        self._store.delete(paths)

    def remove(self, attempt: str) -> None:
        self.close(attempt)
        for folder in self._folders(attempt):
            self._store.delete([each.name for each in self._store.listed(folder)])

    def remove_reports(self, attempt: str) -> None:
        folder = self._folders(attempt)[1]
        names = [each.name for each in self._store.listed(folder)]
        self._store.delete([each for each in names if "/" not in each.removeprefix(f"{folder}/")])

    def remove_notes(self, attempt: str) -> None:
        self._store.delete([each.name for each in self._store.listed(self._folders(attempt)[1])])

    def _folders(self, attempt: str) -> tuple[str, str]:
        return f"{self._runs}/{attempt}", f"{NOTES}/{RUNS}/{attempt}"
