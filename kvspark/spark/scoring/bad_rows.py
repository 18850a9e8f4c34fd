"""What a scored table says of its bad rows: it has none, their outputs are null, or it says why too."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import pyarrow as pa
from pyspark.sql.types import StringType, StructField, StructType

from kvspark.errors import BadRowsError, UsageError
from kvspark.infer.predict.predict_apart import check_on_bad_row
from kvspark.infer.rows.bad_rows import ERROR_COLUMN, BadRow, BadRows, OnBadRow

Scored = tuple[pa.RecordBatch, pa.RecordBatch, BadRows]
"""A batch as it was read, the same with its outputs, and which of its rows are bad."""

_LONGEST = 60
"""Characters of a value that names a row."""

_FIELDS = ("stage", "error", "message")
_ARROW = pa.struct([(name, pa.string()) for name in _FIELDS])


@final
@dataclass(frozen=True, slots=True)
class Aside:
    """Files of rows that an output leaves out."""

    files: Mapping[int, tuple[str, int]]
    """By partition of the task, a file's name where tasks write such files, and its rows."""
    empty: pa.Table
    """The table without rows."""

    @property
    def rows(self) -> int:
        """All that are left out."""
        return sum(rows for _, rows in self.files.values())


class BadRowOutput(ABC):
    """What becomes of bad rows in a task; crosses to the workers."""

    sets_aside: ClassVar[bool]
    """False if the first bad row fails the task."""

    @property
    def added(self) -> list[StructField]:
        """The columns that come behind the outputs."""
        return []

    @property
    def extra(self) -> int:
        """How many of the last columns that are read are for bad rows alone."""
        return 0

    def named(self, batch: pa.RecordBatch, row: int) -> str | None:
        """What the user calls the row at place `row` of `batch`; None if that is not known."""
        del batch, row
        return None

    @abstractmethod
    def kept(self, scored: Iterable[Scored]) -> Iterator[pa.RecordBatch]:
        """The batches of the scored table, in their order."""

    def aside(self) -> Aside | None:
        """What the tasks that count wrote of the rows that the output leaves out; None if it leaves none out."""
        return None


@final
@dataclass(frozen=True, slots=True)
class NoBadRows(BadRowOutput):
    """A bad row is an error, so there are none."""

    ids: tuple[tuple[str, int], ...] = ()
    """The columns that name a row, and their places in the batches that are read."""
    sets_aside: ClassVar[bool] = False

    def named(self, batch: pa.RecordBatch, row: int) -> str | None:
        if not self.ids:
            return None
        values = [(name, str(batch.column(at)[row].as_py())) for name, at in self.ids]
        return "row with " + ", ".join(f"{name} {value[:_LONGEST]}" for name, value in values)

    def kept(self, scored: Iterable[Scored]) -> Iterator[pa.RecordBatch]:
        return (made for _, made, _ in scored)


@final
@dataclass(frozen=True, slots=True)
class NullOutputs(BadRowOutput):
    """A bad row stays, and its outputs are null."""

    most: int | None = None
    """Bad rows that are allowed."""
    sets_aside: ClassVar[bool] = True

    def kept(self, scored: Iterable[Scored]) -> Iterator[pa.RecordBatch]:
        return (made for _, made, _ in limited(scored, self.most))


@final
@dataclass(frozen=True, slots=True)
class ErrorColumn(BadRowOutput):
    """A bad row stays, its outputs are null, and the last column says why."""

    sets_aside: ClassVar[bool] = True

    @property
    def added(self) -> list[StructField]:
        fields = [StructField(name, StringType(), nullable=False) for name in _FIELDS]
        return [StructField(ERROR_COLUMN, StructType(fields), nullable=True)]

    def kept(self, scored: Iterable[Scored]) -> Iterator[pa.RecordBatch]:
        for _, made, bad in scored:
            errors = _errors(bad, made.num_rows)
            names = [*made.schema.names, ERROR_COLUMN]
            yield pa.RecordBatch.from_arrays([*made.columns, errors], names=names)


def bad_row_output(on_bad_row: OnBadRow) -> BadRowOutput:
    """What `score` makes of bad rows.

    Raises:
        UsageError: `on_bad_row` is none of its choices.
    """
    check_on_bad_row(on_bad_row)
    outputs = {"error": NoBadRows(), "null": NullOutputs(), "quarantine": ErrorColumn()}
    return outputs[on_bad_row]


def check_added(output: BadRowOutput, columns: Sequence[str]) -> None:
    """Does nothing if a table of `columns` can have those that `output` adds.

    Raises:
        UsageError: one of them is there already.
    """
    there = {name.lower() for name in columns}
    for field in output.added:
        if field.name in there:
            raise UsageError(
                f"the table has a column {field.name!r} already, from another call of score; drop it or "
                'rename it, or choose on_bad_row="null"'
            )


def limited(scored: Iterable[Scored], most: int | None) -> Iterator[Scored]:
    """`scored`, as long as no more than `most` of its rows are bad.

    Raises:
        BadRowsError: more are; a task need not go on where the run has failed.
    """
    found = 0
    for given, made, bad in scored:
        found += len(bad)
        if most is not None and found > most:
            why = next(iter(bad.values()))
            raise BadRowsError(
                f"{found:,} rows of one task are bad and {most:,} are allowed in all "
                f"(one of them: {_said(why)}); nothing was published, mend the input or allow more by "
                "input.max_bad_rows or input.max_bad_fraction"
            )
        yield given, made, bad


def _said(why: BadRow) -> str:
    return f"{why.stage}: {why.message}"


def _errors(bad: BadRows, count: int) -> pa.Array:
    if not bad:
        return pa.nulls(count, _ARROW)
    told = [bad.get(row) for row in range(count)]
    values = [
        None if why is None else {"stage": why.stage, "error": why.error, "message": why.message}
        for why in told
    ]
    return pa.array(values, _ARROW)
