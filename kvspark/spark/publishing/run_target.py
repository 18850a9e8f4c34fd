"""What a run asks of the place that its output goes to, whatever that is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from pyspark.sql.types import StructType

from kvspark.spark.output.output_check import Written
from kvspark.spark.runs.history import PastRun
from kvspark.spark.runs.run_report import RunReport
from kvspark.spark.scoring.bad_rows import BadRowOutput
from kvspark.spark.scoring.score import ScoredTable
from kvspark.table.merge.row_ids import RowIds
from kvspark.table.place.place import Place


class Staging(ABC):
    """The output of one attempt, which nobody finds until it is published."""

    @abstractmethod
    def bad_rows(self) -> tuple[Place, str]:
        """A place, and a folder in it, for the rows that the output leaves out; asked for once at most.

        Raises:
            OutputError: the place refuses.
        """

    @abstractmethod
    def write(self, table: ScoredTable) -> str:
        """Who wrote the rows of `table`, which are computed: `arrow` or `spark`, and why then.

        Raises:
            UsageError, OutputError: the rows cannot be written there.
        """

    @abstractmethod
    def validated(
        self, schema: StructType, rows: int, bad_rows: BadRowOutput, changed: RowIds | None
    ) -> Written:
        """What was written, once it is known to be what the run should have written of `rows` rows.

        `changed` are the ids of the rows that the input has changed or removed, where it says so.

        Raises:
            ValidationError: it is not.
            DataError: rows are merged, and two have one id, or one has none.
            OutputError: it cannot be added to the table that is there.
        """

    @abstractmethod
    def report(self, report: RunReport) -> None:
        """Lays `report` beside the rows, and the history with it."""

    @abstractmethod
    def publish(self) -> None:
        """Makes it what readers find, in one step.

        Raises:
            OutputError: the place refused; what readers find is what it was.
        """

    @abstractmethod
    def discard(self) -> None:
        """Removes what was not published; never raises."""


class RunTarget(ABC):
    """The place of an output."""

    @property
    @abstractmethod
    def url(self) -> str:
        """What reports and messages call it."""

    @property
    @abstractmethod
    def notes(self) -> Path:
        """A folder in which the report and the history of the output lie as they lie in an output on this machine.

        Under the lock, or in `reading`.
        """

    @contextmanager
    def reading(self) -> Iterator[Path]:
        """`notes`, for who holds no lock."""
        yield self.notes

    @property
    @abstractmethod
    def is_there(self) -> bool:
        """True if there is an output."""

    @property
    @abstractmethod
    def is_published(self) -> bool:
        """True once what was staged is what readers find."""

    @abstractmethod
    def check(self) -> None:
        """Does nothing if an output may take the place of what is there now.

        Raises:
            OutputError: it may not; says what is there and what to do.
        """

    @abstractmethod
    def lock(self, run_id: str) -> AbstractContextManager[object]:
        """A lock to hold for the whole of run `run_id`."""

    @abstractmethod
    def recover(self) -> int:
        """Removes what dead runs left; the number of these, as far as it is known. Only under the lock."""

    @abstractmethod
    def begin(self, run_id: str) -> Staging:
        """A new attempt. Only under the lock."""

    @abstractmethod
    def keep(self, run: PastRun) -> None:
        """Keeps the line of a run that published nothing, where there is an output.

        Raises:
            OSError, OutputError: the place refuses.
        """

    @abstractmethod
    def drop_kept(self) -> None:
        """Removes the lines that were there when the history of what is published was written.

        Raises:
            OSError, OutputError: the place refuses.
        """

    @abstractmethod
    def left(self) -> str | None:
        """What was staged and could not be removed; None for nothing."""
