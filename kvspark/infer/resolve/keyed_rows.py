"""Rows by their keys, before anything is known of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final, overload

import numpy as np
import numpy.typing as npt


@final
class RowNumbers(Sequence[bytes]):
    """The names of `count` rows that nobody looks for: made when somebody reads one, and that is seldom."""

    def __init__(self, count: int, first: int = 0, *, are_distinct: bool) -> None:
        self._numbers = range(first, first + count)
        self.are_distinct = are_distinct

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[bytes]:
        return (number.to_bytes(8, "little") for number in self._numbers)

    @overload
    def __getitem__(self, place: int) -> bytes: ...

    @overload
    def __getitem__(self, place: slice) -> RowNumbers: ...

    def __getitem__(self, place: int | slice) -> bytes | RowNumbers:
        if isinstance(place, slice):
            found = self._numbers[place]
            return RowNumbers(len(found), found.start, are_distinct=self.are_distinct)
        return self._numbers[place].to_bytes(8, "little")


def are_distinct(keys: Sequence[bytes]) -> bool:
    """True if no row equals another of those that have `keys`; a name that is looked for has one row."""
    return not isinstance(keys, RowNumbers) or keys.are_distinct


@final
@dataclass(frozen=True, slots=True)
class Keyed:
    """The distinct keys of n rows at one stage."""

    keys: list[bytes]
    """In order of first row."""
    key_of_row: npt.NDArray[np.intp]
    """(n,): for each row, the place of its key."""
    first_row: npt.NDArray[np.intp]
    """For each key, the first row that has it."""
