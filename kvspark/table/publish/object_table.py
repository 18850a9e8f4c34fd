"""The versions of a table in an object store or in HDFS, as readers find them; see `object_publisher` for where things are."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import final

from kvspark.errors import OutputError, ValidationError
from kvspark.table.file_written import FileWritten
from kvspark.table.objects.objects import Objects
from kvspark.table.publish.file_list import LIST_NAME, FileList, Share, path_of
from kvspark.table.publish.pointer import POINTER_NAME, Pointer
from kvspark.table.publish.publisher import Published

RUNS = "_runs"
NOTES = "_kvspark"
QUARANTINE = f"{NOTES}/quarantine"


@final
class ObjectTable:
    """What is published below one URL. Its methods raise OSError where the store refuses."""

    def __init__(self, store: Objects) -> None:
        self._store = store
        self._lists: dict[str, FileList] = {}  # nobody changes one that is published

    @property
    def url(self) -> str:
        """Where it is."""
        return self._store.url

    def read(self) -> tuple[Pointer | None, str | None]:
        """The pointer and its tag; None before the first run.

        Raises:
            OutputError: it is damaged.
        """
        stored = self._store.get(POINTER_NAME)
        if stored is None:
            return None, None
        return Pointer.from_bytes(stored.data, url=self._store.url), stored.tag

    def pointer(self) -> Pointer | None:
        """As `read`.

        Raises:
            OutputError: it is damaged, or the store refuses.
        """
        try:
            return self.read()[0]
        except OSError as exc:
            raise OutputError(str(exc)) from exc

    def note(self, version: Published, name: str) -> bytes | None:
        """A small file of `version`, `_kvspark/run.json` say; None if it has none."""
        stored = self._store.get(f"{RUNS}/{version.attempt}/{name}")
        return None if stored is None else stored.data

    def files(self, version: Published) -> FileList:
        """The files of `version`.

        Raises:
            OutputError: their list is gone, or damaged.
        """
        if version.attempt not in self._lists:
            self._lists[version.attempt] = self._files(version)
        return self._lists[version.attempt]

    def _files(self, version: Published) -> FileList:
        data = self.note(version, LIST_NAME)
        try:
            found = FileList.from_bytes(data or b"")
        except (ValueError, KeyError, TypeError) as exc:
            raise OutputError(
                f"{self.url}/{RUNS}/{version.attempt}/{LIST_NAME} is gone or damaged, so the table's files are not known; nothing "
                "was changed, go back to another version (kvspark rollback), or publish all rows with output.mode: replace"
            ) from exc
        if found.columns is None:
            # Of one attempt, and without what it has set aside.
            names = [
                name for name in self.sizes(version.attempt) if name.startswith(f"{QUARANTINE}/")
            ]
            found = replace(found, shares=(replace(found.shares[0], beside=tuple(names)),))
        return found

    def sizes(self, attempt: str) -> dict[str, int]:
        """Bytes of all that there is of an attempt, by path in its folder."""
        folder = f"{RUNS}/{attempt}"
        return {
            each.name.removeprefix(f"{folder}/"): each.size_bytes
            for each in self._store.listed(folder)
        }

    def lost(self, shares: Iterable[Share]) -> Iterator[str]:
        """The files of `shares` with rows that are not there as they were written, by their paths below `_runs`."""
        wanted = {f"{each.attempt}/{path_of(file)}": file for each in shares for file in each.files}
        sizes = self._all_sizes({name.partition("/")[0] for name in wanted})
        for name, file in wanted.items():
            if sizes.get(name) != file.size_bytes:
                yield name

    def _all_sizes(self, attempts: Collection[str]) -> Mapping[str, int]:
        """As `sizes`, of `attempts` at least, by path below `_runs`."""
        # A listing of all needs as many requests with many attempts as with few.
        below = RUNS if len(attempts) > 1 else "/".join((RUNS, *attempts))
        found = self._store.listed(below) if attempts else ()
        return {each.name.removeprefix(f"{RUNS}/"): each.size_bytes for each in found}

    def check_files(self, attempt: str, files: Iterable[FileWritten]) -> None:
        """Does nothing if all `files` of `attempt` are there as they were written.

        Raises:
            ValidationError: one is not.
        """
        sizes = self.sizes(attempt)
        for each in files:
            size_bytes = sizes.get(path_of(each))
            if size_bytes != each.size_bytes:
                found = "is not there" if size_bytes is None else f"has {size_bytes:,} bytes"
                raise ValidationError(
                    f"nothing was published: {self._store.url}/{RUNS}/{attempt}/{path_of(each)} {found}, and its task "
                    f"wrote {each.size_bytes:,} bytes"
                )

    def check_whole(self, version: Published) -> None:
        """Does nothing if all files of `version` are there.

        Raises:
            OutputError: one is not.
        """
        if any(self.lost(self.files(version).shares)):
            raise OutputError(
                f"the output of {version.run_id} in {self.url} is not whole any more; the output is as it was, choose "
                "another version"
            )
