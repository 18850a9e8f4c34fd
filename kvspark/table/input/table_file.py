"""One file of a table, with what the table says of its rows beside the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
import numpy.typing as npt

from kvspark.table.input.pinned_file import PinnedFile


@final
@dataclass(frozen=True, slots=True)
class Deleted:
    """Rows of a file that are not in the table."""

    places: bytes
    """Their places in the file, ascending, as int64."""

    @classmethod
    def of(cls, places: npt.NDArray[np.int64]) -> Deleted:
        """The rows at `places`."""
        return cls(np.unique(places).astype("<i8").tobytes())

    @property
    def count(self) -> int:
        """How many they are."""
        return len(self.places) // 8

    def kept(self, start: int, rows: int) -> npt.NDArray[np.bool_]:
        """Of each of `rows` rows from place `start` on, whether it is in the table."""
        places = np.frombuffer(self.places, "<i8")
        low, high = np.searchsorted(places, (start, start + rows))
        kept = np.ones(rows, dtype=bool)
        kept[places[low:high] - start] = False
        return kept


@final
@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file that a table lists, before anybody has looked for it."""

    location: str
    """Its path or URL."""
    values: Mapping[str, Any]
    """Of columns by whose values the table is partitioned, by their names in the table; a file need not have them."""
    deleted: Deleted | None


@final
@dataclass(frozen=True, slots=True)
class TableFile:
    """A file whose rows are in the table."""

    pinned: PinnedFile
    values: Mapping[str, Any] = field(default_factory=dict)
    """The columns that all its rows have in common, in whatever Arrow makes their type of."""
    deleted: Deleted | None = None
