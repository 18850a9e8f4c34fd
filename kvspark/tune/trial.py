"""What a measurement of one candidate came to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, final

from kvspark.tune.space import Candidate


@final
@dataclass(frozen=True, slots=True)
class Measured:
    """How fast a candidate was."""

    rate: float
    """Rows a second, of all that was measured."""
    parts: Mapping[str, float] = field(default_factory=dict)
    """Rows a second by part: `first night`, `next night`."""
    change: float | None = None
    """The largest change of an output as a part of its largest number; None where nothing was compared."""
    troubles: tuple[str, ...] = ()
    """Why the store was not used all the time."""
    compute_s: float = 0.0
    """Of a worker, for a row, where nothing was found."""


@final
@dataclass(frozen=True, slots=True)
class Trial:
    """One measurement of a candidate, or why there is none."""

    number: int
    candidate: Candidate
    measured: Measured | None
    error: str | None = None
    seconds: float = 0.0
    """That it took, all in all."""

    @property
    def rate(self) -> float | None:
        """Rows a second; None if it failed."""
        return None if self.measured is None else self.measured.rate


Measure: TypeAlias = Callable[[Candidate], Measured]
"""Raises a KvsparkError for a candidate that cannot be measured."""
