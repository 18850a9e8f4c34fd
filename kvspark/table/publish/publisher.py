"""How the files of a run become the table that readers find: one interface, one file for each kind of target."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, final

import pyarrow as pa

from kvspark.errors import OutputError
from kvspark.table.file_written import FileWritten
from kvspark.table.merge.merging import Merge, MergedFiles
from kvspark.table.place.place import Place
from kvspark.table.publish.dead_run import DeadRun
from kvspark.table.publish.unpublished_runs import UnpublishedRuns

Replaces: TypeAlias = Literal["table", "partitions", "run", "rows"]
"""What a run takes out of the table: all that is there, the partitions of which it has rows, or what a run of the same id
has added, so that its rows are added to all others, or the rows that `Publisher.merged` was told of."""


def unchanged(schema: pa.Schema, partition_by: Sequence[str]) -> pa.Schema:
    """`schema`, for formats whose files have the columns as they are."""
    del partition_by
    return schema


@final
@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of a run to publish."""

    run_id: str
    name: str
    """No two attempts have the same."""
    place: Place
    """Where its tasks write."""
    fence: str = ""
    """What shows that no later attempt has begun."""
    file_schema: Callable[[pa.Schema, Sequence[str]], pa.Schema] = unchanged
    """The columns of the table, and by which of them it is parted, as the files must have them: with the ids of a
    format that has such. Raises OutputError where the table cannot have them."""


@final
@dataclass(frozen=True, slots=True)
class Content:
    """What an attempt publishes."""

    files: tuple[FileWritten, ...]
    """In the attempt's place, one try of each task."""
    schema: pa.Schema
    """Of all columns."""
    partition_by: tuple[str, ...] = ()
    notes: Mapping[str, bytes] = field(default_factory=dict)
    """Small files that belong to the table and hold no rows of it, by path: the report, the history."""
    beside: tuple[str, ...] = ()
    """Paths in the attempt's place of files that tasks wrote and that hold no rows of the table: the quarantine."""
    merged: MergedFiles | None = None
    """What `Publisher.merged` has made of the files that are there, whose new files are not among `files`."""

    @property
    def all_files(self) -> tuple[FileWritten, ...]:
        """Those of the run, and those that it has rewritten."""
        return self.files if self.merged is None else (*self.files, *self.merged.files)


@final
@dataclass(frozen=True, slots=True)
class Published:
    """A table that was published."""

    attempt: str
    run_id: str
    published_at: str
    """UTC, ISO 8601."""
    url: str
    """What Spark reads, where it can: the folder of this version. Where files of several runs are in it, of which no folder is
    the table, the list of these files."""
    rows: int


class Publisher(ABC):
    """A target.

    Guarantees of every one, whatever dies at whatever moment: a reader finds the table of one attempt, whole, the
    last that was committed. What is left of attempts that did not commit is removed by the next `prepare`.

    All methods raise OutputError where the target refuses, in one line that says what became of it.
    """

    @property
    @abstractmethod
    def url(self) -> str:
        """What messages call the target."""

    @abstractmethod
    def check(self, run_id: str | None = None) -> None:
        """Does nothing if a run, `run_id` where that is known, may publish here; touches nothing.

        Raises:
            OutputError: it may not: what is there is not ours, or cannot be reached, or cannot be added to.
        """

    def check_columns(self, schema: pa.Schema, partition_by: Sequence[str], run_id: str) -> None:
        """Does nothing if rows of run `run_id` with the columns `schema` can be added, as far as that is known at once.

        The type of a column may be null: not known yet. Here nothing is known before the rows are written.

        Raises:
            OutputError: the table has other columns.
        """
        del schema, partition_by, run_id

    @abstractmethod
    def lock(self, run_id: str) -> AbstractContextManager[DeadRun | None]:
        """Held for the whole of run `run_id`: a second one is told at once, not at its end.

        Entering it returns the run that held it and is dead, None if the last one let go of it.

        Raises:
            RunLockedError: another run holds it.
        """

    @abstractmethod
    def prepare(self, run_id: str) -> Attempt:
        """A new attempt, once what dead ones left is removed. From now on no earlier attempt can commit."""

    @abstractmethod
    def commit(self, attempt: Attempt, content: Content) -> None:
        """Makes `content` what readers find, in one step. Does nothing for an attempt that is published.

        What was there before is kept as the newest of `versions`; older ones than are kept are removed.

        Raises:
            ValidationError: a file is missing, or not as its task left it.
            RunLockedError: another run has begun since, and this one can publish no more.
        """

    def merged(self, attempt: Attempt, content: Content, merge: Merge) -> Content:
        """`content` with what its commit takes out of the table: the rows that it replaces by their ids.

        Before `commit`, of a publisher that replaces rows. Nothing that readers find is touched.

        Raises:
            DataError: a row has no id, or that of another.
            OutputError: it cannot be said; see `merged_files`.
            RunLockedError: another run, or program, has written since.
        """
        del attempt, content, merge
        raise OutputError(
            f"{self.url} is no table whose rows are replaced one by one; nothing was published, set output.mode to another"
        )

    @abstractmethod
    def abort(self, attempt: Attempt) -> None:
        """Removes what there is of the attempt; what cannot be removed now, the next one removes."""

    @abstractmethod
    def current(self) -> Published | None:
        """What readers find; None before the first run."""

    @abstractmethod
    def versions(self) -> tuple[Published, ...]:
        """What can be restored, the one that was replaced last first."""

    @abstractmethod
    def note(self, version: Published, path: str) -> bytes | None:
        """What `Content.notes` had under `path`; None if it had nothing."""

    def unpublished(self) -> UnpublishedRuns | None:
        """What is kept of runs that published nothing; None where there is no place for it."""
        return None

    @abstractmethod
    def rollback(self, version: Published) -> None:
        """Makes `version` what readers find, and keeps what was there. Under the lock."""
