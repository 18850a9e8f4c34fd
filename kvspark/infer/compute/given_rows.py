"""What a stage is given for some rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from kvspark.infer.compute.bad_rows import BadRow, Indices, Lengths, bad_at


@final
@dataclass(frozen=True, slots=True)
class Given:
    """The arguments of `count` rows."""

    arguments: Sequence[Any]
    """In the order of the stage's sources: arrays or lists with a value for each row."""
    lengths: Lengths | None
    count: int
    bad: dict[int, BadRow]
    """Rows that are bad before the stage sees them."""

    def take(self, rows: Indices) -> Given:
        """Of the rows at these places."""
        return Given(
            [
                [argument[row] for row in rows] if isinstance(argument, list) else argument[rows]
                for argument in self.arguments
            ],
            None if self.lengths is None else self.lengths[rows],
            len(rows),
            bad_at(self.bad, rows),
        )

    def apart(self) -> tuple[Indices, Indices]:
        """The rows that can be computed, and those that are bad."""
        rows = np.arange(self.count)
        is_bad = np.isin(rows, list(self.bad))
        return rows[~is_bad], rows[is_bad]
