"""What is known of a model besides its stages, when it is tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from kvspark.model.trials.attempt import Run


@final
@dataclass(frozen=True, slots=True)
class Captured:
    """What is known of a graph besides its stages."""

    own: Run | None = None
    """The model's own runtime, where that is another than the stages."""
    shortest: int = 0
    longest: int | None = None
    """The rows that the graph was captured for."""
    tables: Sequence[int] | None = None
    """The lengths of the tables that the graph reads positions from; None where nobody knows."""
    is_half: bool = False
    """True if it computes in half precision, whatever its outputs are."""
    length_groups: tuple[tuple[str, ...], ...] = ()
    """The inputs that share a length, where it declares several lengths."""
    longest_apart: tuple[int | None, ...] = ()
    """The longest rows that it was captured for, group by group."""
