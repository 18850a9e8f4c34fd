"""The versions of a table in an object store or in HDFS, as readers find them; see `object_publisher` for where things are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import final

from kvspark.errors import OutputError, ValidationError
from kvspark.table.file_written import FileWritten
from kvspark.table.objects.objects import Objects
from kvspark.table.publish.file_list import LIST_NAME, FileList
from kvspark.table.publish.pointer import POINTER_NAME, Pointer
from kvspark.table.publish.publisher import Published

RUNS = "_runs"
NOTES = "_kvspark"


@final
class ObjectTable:
    """What is published below one URL. Its methods raise OSError where the store refuses."""

    def __init__(self, store: Objects) -> None:
        self._store = store

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

    def files(self, version: Published) -> tuple[FileWritten, ...]:
        """The files of `version`.

        Raises:
            OutputError: their list is gone, or damaged.
        """
        data = self.note(version, LIST_NAME)
        try:
            return tuple(FileList.from_bytes(data or b"").files)
        except (ValueError, KeyError, TypeError) as exc:
            raise OutputError(
                f"{version.url}/{LIST_NAME} is gone or damaged: the table's files are not known, go back to another version"
            ) from exc

    def sizes(self, attempt: str) -> dict[str, int]:
        """Bytes of all that there is of an attempt, by path in its folder."""
        folder = f"{RUNS}/{attempt}"
        return {
            each.name.removeprefix(f"{folder}/"): each.size_bytes
            for each in self._store.listed(folder)
        }

    def strays(self, version: Published) -> list[str]:
        """The files in the folder of `version` that were added after it was published."""
        wanted = {path_of(each) for each in self.files(version)}
        names = self.sizes(version.attempt)
        return [n for n in names if n not in wanted and n.endswith(".parquet") and not _is_note(n)]

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
        try:
            self.check_files(version.attempt, self.files(version))
        except ValidationError as exc:
            raise OutputError(
                f"the output of {version.run_id} in {version.url} is not whole any more; the output is as it was, choose "
                "another version"
            ) from exc


def path_of(file: FileWritten) -> str:
    """Where a file lies in the folder of its version."""
    return f"{file.folder}/{file.name}" if file.folder else file.name


def _is_note(name: str) -> bool:
    return name.startswith(f"{NOTES}/")
