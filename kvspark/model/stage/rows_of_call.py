"""How many rows share a call of a stage, by what one row of it costs: a fixed rule.

Rows are part of a fingerprint, so they may not hang on the machine or on a measurement. The rule
counts with one machine for all, about a core of 2020, and takes the fewest rows at which calling costs
little beside computing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from kvspark.spec import ROWS_UNIT

MOST_ROWS = 1024
OVERHEAD = 0.05
"""Of the time of a call: what may go into calling operators."""
CALL_S = 20e-6
"""A call that computes nothing: arguments gathered, results brought back."""
OPERATOR_S = 3e-6
"""An operator that computes nothing."""
OPERATIONS_PER_S = 20e9
BYTES_PER_S = 10e9
MOST_BYTES = 1 << 20
"""What an operator takes and gives in a call, its weights left out: what fits a core's L2 with them."""


@final
@dataclass(frozen=True, slots=True)
class Work:
    """What one row of a stage costs."""

    operations: float
    """Floating-point operations."""
    moved_bytes: float
    """Bytes that its operators take and give, one after the other; weights left out."""
    widest_bytes: float
    """Of these, the most that one operator takes and gives."""
    operators: int
    """That a call runs, however many rows it has."""

    @property
    def row_s(self) -> float:
        """The seconds that a row takes where calling costs nothing."""
        return self.operations / OPERATIONS_PER_S + self.moved_bytes / BYTES_PER_S

    def __add__(self, other: Work) -> Work:
        """What this and `other` cost, one after the other."""
        return Work(
            self.operations + other.operations,
            self.moved_bytes + other.moved_bytes,
            max(self.widest_bytes, other.widest_bytes),
            self.operators + other.operators,
        )


NOTHING = Work(0, 0, 0, 0)


def rows_of_call(work: Work) -> int:
    """The rows of a call of a stage whose rows cost `work` each: a power of two from 32 to 1,024."""
    overhead_s = CALL_S + work.operators * OPERATOR_S
    rows = ROWS_UNIT
    while (
        rows < MOST_ROWS
        and rows * work.row_s * OVERHEAD < overhead_s
        and 2 * rows * work.widest_bytes <= MOST_BYTES
    ):
        rows *= 2
    return rows
