"""Bad rows: which they are, and why they have no result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
import numpy.typing as npt

from kvspark.errors import RowError

OnBadRow = Literal["error", "null", "quarantine"]
"""What becomes of a bad row: it fails the run, its outputs are null, or it is told apart as well."""

Indices = npt.NDArray[np.intp]
Lengths = npt.NDArray[np.int64]

ERROR_COLUMN = "_kvspark_error"
"""Tells of each row why it is bad, where the caller of `score` or `predict` takes them apart."""
INPUT = "input"
"""The `stage` of a row that no stage has seen."""
ADVICE = "; filter the row out, mend it, or choose on_bad_row"


@final
@dataclass(frozen=True, slots=True)
class BadRow:
    """Why a row has no result; holds nothing of the row itself."""

    stage: str
    """The stage that raised, or `input`."""
    error: str
    """`NullValue`, `WrongValue`, `RowError`, or the class of the exception that the stage raised."""
    message: str

    def refused(self, row: int, more: int = 0) -> RowError:
        """The error that refuses the row, which is at place `row`; `more` others of its batch are bad too."""
        where = "" if self.stage == INPUT else f"stage {self.stage!r}: "
        others = f" (and {more:,} more of the batch)" if more else ""
        return RowError(f"{where}{self.message}{others}{ADVICE}", row, self.message, self.error)


BadRows = Mapping[int, BadRow]
"""By place."""


def bad_at(bad: BadRows, places: Indices) -> dict[int, BadRow]:
    """The bad rows of the rows that are taken from `places`."""
    if not bad:
        return {}
    return {row: bad[place] for row, place in enumerate(places.tolist()) if place in bad}


def bad_joined(parts: Sequence[tuple[BadRows, int]]) -> dict[int, BadRow]:
    """The bad rows of parts that are laid end to end, each with its number of rows."""
    joined: dict[int, BadRow] = {}
    start = 0
    for bad, count in parts:
        joined.update({start + row: why for row, why in bad.items()})
        start += count
    return joined
