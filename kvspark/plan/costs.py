"""What stages and the store take, as it was measured, and what is expected of the nights to come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

from kvspark.errors import UsageError
from kvspark.model.stage.stage import Stage


@final
@dataclass(frozen=True, slots=True)
class StageCost:
    """What one row takes at one stage, in seconds of one worker."""

    compute_s: float
    """To compute it, once what the stage takes is there."""
    lookup_s: float = 0.0
    """To name it and to ask the store."""
    fetch_s: float = 0.0
    """More than that where the store has it: to move and to decode it."""
    insert_s: float = 0.0
    entry_bytes: int | None = None
    """Of its entry, as it crosses; None where the stage has no entries: it is never cached."""


@final
@dataclass(frozen=True, slots=True)
class StageRows:
    """How many rows a run asks of one stage, if no stage behind it finds any."""

    asked: float
    """Distinct in a window, or not in a worker's memory: so many are computed without a cache."""
    distinct: float
    """In the whole table: so many are computed where workers share a cache."""
    hits: float = 0.0
    """The share of the distinct rows that the store has for all but sure, 0 to 1: what is cached is chosen by it."""
    likely_hits: float | None = None
    """The same as it is expected, by which seconds are told; None: as `hits`."""
    stored: float = 1.0
    """The share of rows that those were chosen from, by their digests: of others none is there. Above 0."""


@final
@dataclass(frozen=True, slots=True)
class Expectation:
    """What the next runs will be like."""

    again: float = 0.5
    """The share of rows that the next run asks for again."""
    retrained: float = 0.1
    """The chance that the last stage is another one by then."""
    runs: int = 1
    """Next runs that count."""

    def __post_init__(self) -> None:
        for name in ("again", "retrained"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} must be 0 to 1, got {getattr(self, name)}")
        if self.runs < 0:
            raise UsageError(f"runs must not be negative, got {self.runs}")


@final
@dataclass(frozen=True, slots=True)
class Night:
    """One run, as far as its seconds follow from what is cached: of `stages`, in topological order."""

    stages: Sequence[Stage]
    costs: Mapping[str, StageCost]
    rows: Mapping[str, StageRows]
    stores: bool = True
    """False if the store takes no entries: it is full."""

    def likely(self) -> Night:
        """This run with as many hits as are expected."""
        rows = {
            name: each if each.likely_hits is None else replace(each, hits=each.likely_hits)
            for name, each in self.rows.items()
        }
        return replace(self, rows=rows)
