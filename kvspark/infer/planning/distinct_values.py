"""How many distinct values the rows of a table have, by a sample from several places of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp
from typing import final

import numpy as np

from kvspark.infer.rows.bad_rows import Indices

_STEPS = 60
"""Halvings of an interval: more change no digit that is told."""
_TRIED = 200
"""Rates from one value in a million rows to all of them: each is a fourteenth above the one before."""
_SURE = 0.98
"""What chance leaves of the number of values at eight places, where a few hundred are counted at each."""
_SELDOM = 0.75
"""Where rows that follow each other have more distinct values than this part of them, too few are equal to say whether
values come and go from row to row."""
_MIXED = 1.1
"""Rows from all places have so many times the values of rows that follow each other, by chance alone."""


@final
@dataclass(frozen=True, slots=True)
class DistinctValues:
    """The distinct values of the rows of a table."""

    whole: float
    """Of all rows."""
    near: float
    """Among so many do rows choose that follow each other."""
    new: float = 0.0
    """So many values come besides with each row, as the table goes on."""

    def among(self, rows: int) -> float:
        """Of `rows` rows that follow each other."""
        return min(self.whole, float(rows), expected_distinct(self.near, rows) + self.new * rows)


def distinct_values(value_of_row: Indices, place_of_row: Indices, rows: int) -> DistinctValues:
    """The values of the `rows` rows of a table; of a sample of it `value_of_row` numbers them, (n,).

    Rows of one place follow each other. A table whose users come and go, one that is sorted by user say, has few values
    at any place and many in all. That is told by rows of one place beside as many rows from all places.
    """
    sampled = len(value_of_row)
    whole = estimated_distinct(_count(value_of_row), sampled, rows)
    parts = [value_of_row[place_of_row == place] for place in np.unique(place_of_row)]
    size = min(map(len, parts))
    if len(parts) == 1 or size < len(parts):
        return DistinctValues(whole, whole)
    parts = [part[:size] for part in parts]
    seen = _mean(parts)
    near = estimated_distinct(seen, size, rows)
    if seen > _SELDOM * size:
        return DistinctValues(whole, near)
    mixed = np.concatenate(parts)
    apart = _mean([mixed[place :: len(parts)] for place in range(len(parts))])
    if apart <= _MIXED * seen:
        return DistinctValues(whole, whole)
    half = size // 2
    halves = [each for part in parts for each in (part[:half], part[half : 2 * half])]
    near, new = _growing(_mean(halves), half, seen, size)
    return DistinctValues(min(float(rows), max(whole, near + new * rows)), near, new)


def _growing(of_half: float, half: int, of_all: float, size: int) -> tuple[float, float]:
    """Among how many values rows choose, and how many come with each row.

    `half` rows have `of_half` of them, `size` rows `of_all`; of all pairs that say so, the one whose values come most slowly.
    """
    near = of_half
    for new in (0.0, *np.geomspace(1e-6, of_half / half, _TRIED).tolist()):
        near = estimated_distinct(max(0.0, of_half - new * half), half, size * size)
        if expected_distinct(near, size) + new * size >= _SURE * of_all:
            return near, new
    return near, of_half / half


def estimated_distinct(seen: float, sampled: int, rows: int) -> float:
    """How many distinct values `rows` rows have, of which a sample of `sampled` has `seen`; all equally frequent.

    A sample without two equal rows says nothing: then all rows are taken to be distinct.
    """
    if seen >= sampled or sampled >= rows:
        return float(rows if sampled < rows else seen)
    low, high = float(seen), float(rows)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if expected_distinct(middle, sampled) < seen else (low, middle)
    return high


def expected_distinct(values: float, sampled: int) -> float:
    """How many of `values` values, all equally frequent, a sample of `sampled` rows has."""
    return values * (1 - exp(-sampled / values)) if values > 0 else 0.0


def _count(values: Indices) -> int:
    return len(np.unique(values))


def _mean(parts: Sequence[Indices]) -> float:
    """Distinct values of one of `parts`."""
    return float(np.mean([_count(part) for part in parts]))
