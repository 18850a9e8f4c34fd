"""What is done about rows on which a stage raises: the first is an error, or all are set aside.

A call that raises is made again with half of its rows, in the same shape, until the bad ones are
known: one bad row costs at most two calls a halving, and n rows never more than 2 n. No row is bad
that has not failed alone.

Trouble that is not a row's own stops everything: memory that is full, a file or a module that is
missing, a damaged bundle.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePath
from typing import final

import numpy as np

from kvspark.errors import KvsparkError, RowError
from kvspark.infer.compute.bad_row_reason import said_of
from kvspark.infer.rows.bad_rows import BadRow, Indices
from kvspark.spec import Rows

Results = Sequence[Rows]
Call = Callable[[Indices], Results]
"""Computes the rows at some places; it may be made again for fewer of them."""

_PORTION = 32
"""Rows of one call of a feature stage where bad rows are set aside: what is decoded a second time."""


class BadRowRule(ABC):
    """What a stage does about bad rows while it computes."""

    @abstractmethod
    def results(
        self, stage: str, rows: Indices, call: Call, bad: dict[int, BadRow]
    ) -> Iterator[tuple[Indices, Results]]:
        """What `call` gives for `rows`, in one part or in several; the rows without a result go to `bad`."""

    @abstractmethod
    def portions(self, rows: Indices) -> list[Indices]:
        """`rows` in the parts in which a stage without a fixed shape is called."""

    @abstractmethod
    def found(self, row: int, why: BadRow, bad: dict[int, BadRow]) -> None:
        """Takes note of a bad row that was found before its stage was called."""


@final
class Refuse(BadRowRule):
    """The first bad row is an error.

    Raises:
        RowError: names the row; chained to what the stage raised.
    """

    def results(
        self, stage: str, rows: Indices, call: Call, bad: dict[int, BadRow]
    ) -> Iterator[tuple[Indices, Results]]:
        del bad  # there are none
        try:
            made = call(rows)
        except Exception as exc:
            if not is_of_a_row(exc):
                raise
            row, error = _first_bad(rows, call, exc)
            if not isinstance(error, RowError):
                raise _told(stage, error).refused(row) from error
            # A decoder says what to do itself; an operator that was explained does not.
            is_whole = error.trouble != error.args[0]
            said = error.at(row) if is_whole else _told(stage, error).refused(row)
            raise said from error.__cause__
        yield rows, made

    def portions(self, rows: Indices) -> list[Indices]:
        return [rows]

    def found(self, row: int, why: BadRow, bad: dict[int, BadRow]) -> None:
        if row not in bad:
            raise why.refused(row)


@final
class SetAside(BadRowRule):
    """Bad rows are told, and all others computed."""

    def results(
        self, stage: str, rows: Indices, call: Call, bad: dict[int, BadRow]
    ) -> Iterator[tuple[Indices, Results]]:
        if not len(rows):
            return
        try:
            made = call(rows)
        except Exception as exc:  # noqa: BLE001 - a model raises what it likes
            yield from self._halves(stage, rows, call, bad, exc)
        else:
            yield rows, made

    def portions(self, rows: Indices) -> list[Indices]:
        return [rows[start : start + _PORTION] for start in range(0, len(rows), _PORTION)]

    def found(self, row: int, why: BadRow, bad: dict[int, BadRow]) -> None:
        bad.setdefault(row, why)

    def _halves(
        self, stage: str, rows: Indices, call: Call, bad: dict[int, BadRow], error: Exception
    ) -> Iterator[tuple[Indices, Results]]:
        """The results of `rows`, for which `call` raises `error`."""
        if not is_of_a_row(error):
            raise error
        place = _place(error, len(rows))
        if place is not None:
            bad[int(rows[place])] = _told(stage, error)
            yield from self.results(stage, rows[:place], call, bad)
            yield from self.results(stage, rows[place + 1 :], call, bad)
            return
        left, right = np.array_split(rows, 2)
        try:
            made = call(left)
        except Exception as exc:  # noqa: BLE001 - as above
            yield from self._halves(stage, left, call, bad, exc)
            yield from self.results(stage, right, call, bad)
            return
        yield left, made
        if len(right) == 1:  # no row is bad that has not failed alone
            yield from self.results(stage, right, call, bad)
        else:
            yield from self._halves(stage, right, call, bad, error)


def _first_bad(rows: Indices, call: Call, error: Exception) -> tuple[int, Exception]:
    """The first of `rows` on which `call` raises, and what it raises there; `error` for all of them."""
    is_alone = len(rows) == 1
    while (place := _place(error, len(rows))) is None:
        left, right = np.array_split(rows, 2)
        try:
            call(left)
        except Exception as exc:
            if not is_of_a_row(exc):
                raise
            rows, error, is_alone = left, exc, len(left) == 1
        else:
            rows, is_alone = right, False
    if is_alone or isinstance(error, RowError):
        return int(rows[place]), error
    try:  # alone, a row is told apart from its company, and its trouble can be put in words
        call(rows[place : place + 1])
    except Exception as exc:  # noqa: BLE001 - a model raises what it likes
        error = exc if is_of_a_row(exc) else error
    return int(rows[place]), error


def _place(error: Exception, count: int) -> int | None:
    """Which of the `count` rows of a call made it raise, if that is known."""
    if isinstance(error, RowError) and error.row is not None and error.row < count:
        return error.row
    return 0 if count == 1 else None


def is_of_a_row(error: Exception) -> bool:
    """False for trouble that another row would have met as well."""
    if isinstance(error, KvsparkError):
        return isinstance(error, RowError)
    if isinstance(error, MemoryError | OSError | ImportError):
        return False
    # torch and onnxruntime have RuntimeErrors for a full memory; after a CUDA error nothing works.
    text = str(error)
    return not any(
        sign in text for sign in ("allocate memory", "out of memory", "CUDA error", "cuDNN error")
    )


def _told(stage: str, error: Exception) -> BadRow:
    if isinstance(error, RowError):
        return BadRow(stage, error.kind, error.trouble)
    said = said_of(error)
    if said is not None:
        return BadRow(stage, type(error).__name__, said)
    # Never the text of a foreign exception that is not known: it may quote the row.
    where, name = error.__traceback__, type(error).__name__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    place = (
        "" if where is None else f" at {_file(where.tb_frame.f_code.co_filename)}:{where.tb_lineno}"
    )
    return BadRow(stage, name, f"it raised {name}{place} (its text may quote the row)")


def _file(name: str) -> str:
    return "/".join(PurePath(name).parts[-2:])
