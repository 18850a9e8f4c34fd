"""Tables of marks: bytes that say what was seen lately, shared by all who use a store.

Some stores can keep them (`Store.sightings`). A table is a string of zeros under a key; who writes a
mark is told in the same step what was there before. It is a hint: a store may lose it at any time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True, slots=True)
class Marks:
    """What is to be written into one table."""

    key: bytes
    places: Sequence[int]
    """From 0, each below `size_bytes - 1`: the last byte of a table is the store's own."""
    marks: Sequence[int]
    """1 to 255, one for each place."""


class Sightings(ABC):
    """The tables of one store."""

    @abstractmethod
    def mark_many(
        self, tables: Sequence[Marks], *, size_bytes: int, ends_s: int, timeout_s: float
    ) -> list[Sequence[int] | None]:
        """Writes the marks, and gives for each table what was at its places before.

        size_bytes: of a table, all of which is taken when it is made.
        ends_s: when the tables are removed, seconds since 1970.

        None for a table that could not be reached, where others could. A mark is written and its
        old value read in one step: of two who write the same, one sees the other's.

        Raises:
            StoreError: nothing of this call is known; some may be written.
        """
