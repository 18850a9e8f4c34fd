"""The files of a table whose format lists them: those of each attempt in a folder of their own.

    <url>/runs/<attempt>/             the rows; the format's log or catalog says which of them count
    <url>/_kvspark/runs/<attempt>/    the report, the history, the quarantine; no reader or cleaner looks there

`runs` has no underscore: whoever cleans the table with its format's own tool shall find files that nobody needs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager

from kvspark.errors import ValidationError
from kvspark.table.file_written import FileWritten
from kvspark.table.place.place import Place
from kvspark.table.publish.dead_run import DeadRun
from kvspark.table.publish.unpublished_runs import UnpublishedRuns

RUNS = "runs"
NOTES = "_kvspark"


class TableFiles(ABC):
    """The files of one table.

    All methods raise OSError where the file system or the store refuses.
    """

    @property
    @abstractmethod
    def url(self) -> str:
        """Of the table."""

    @property
    @abstractmethod
    def runs(self) -> str:
        """Below `url`, where the folders of attempts with their rows are."""

    @abstractmethod
    def lock(self, run_id: str) -> AbstractContextManager[DeadRun | None]:
        """Held by one run at a time."""

    @abstractmethod
    def stray(self) -> str | None:
        """Something in the folder of the table that no run made; None if there is nothing."""

    @abstractmethod
    def open(self, attempt: str) -> Place:
        """Where tasks write. Names are flat: a format lists the values of partition columns itself."""

    @abstractmethod
    def close(self, attempt: str) -> None:
        """No task can make a file any more. Does nothing for what is closed."""

    @abstractmethod
    def sizes(self, attempt: str) -> Mapping[str, int]:
        """Bytes of the files of a closed attempt, by path in its place."""

    @abstractmethod
    def settle(self, attempt: str, beside: Iterable[str], notes: Mapping[str, bytes]) -> None:
        """Keeps `beside`, paths in the place, and `notes` where no reader looks. May be repeated."""

    @abstractmethod
    def sync(self, attempt: str) -> None:
        """Returns when all of the attempt is durable."""

    @abstractmethod
    def inventory(self) -> Mapping[str, Sequence[str]]:
        """All attempts of which there is anything, each with its files, by path in its place; of one that is open perhaps none.

        One listing, however many there are.
        """

    @abstractmethod
    def note(self, attempt: str, name: str) -> bytes | None:
        """A note, or a file of `beside`; None if there is none."""

    @abstractmethod
    def unpublished(self) -> UnpublishedRuns:
        """What is kept of runs that published nothing."""

    @abstractmethod
    def delete(self, attempt: str, names: Iterable[str]) -> None:
        """Removes files of the closed attempt, by path in its place."""

    @abstractmethod
    def remove(self, attempt: str) -> None:
        """Removes all of the attempt, closed or not."""

    @abstractmethod
    def remove_reports(self, attempt: str) -> None:
        """Removes the notes, and leaves what tasks wrote beside the rows."""

    @abstractmethod
    def remove_notes(self, attempt: str) -> None:
        """Removes what no reader looks at."""

    def check(self, attempt: str, files: Iterable[FileWritten]) -> None:
        """Does nothing if all `files` of the closed attempt are there as they were written.

        Raises:
            ValidationError: one is not.
        """
        sizes = self.sizes(attempt)
        for each in files:
            size_bytes = sizes.get(each.name)
            if size_bytes != each.size_bytes:
                found = "is not there" if size_bytes is None else f"has {size_bytes:,} bytes"
                raise ValidationError(
                    f"nothing was published: {self.url}/{self.runs}/{attempt}/{each.name} {found}, and its task wrote "
                    f"{each.size_bytes:,} bytes"
                )


def note_path(name: str) -> str:
    """Where a note or a file of `beside` lies in the folder of its attempt."""
    return name.removeprefix(f"{NOTES}/")


def is_note(name: str) -> bool:
    """True for the path of a file in the place of its attempt, where that is a note or one of `beside`."""
    return name.startswith(f"{NOTES}/")


def is_report(name: str) -> bool:
    """True for a note, of which tasks wrote none."""
    return is_note(name) and "/" not in note_path(name)
