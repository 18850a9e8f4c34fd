"""What was looked up, found and computed with one cache object, wherever that happened.

A cache is opened again in each worker, so no object of it sees all. Here the counts of its own process
are added, and sources are asked that know those of others: Spark's tallies.
"""

from __future__ import annotations

from functools import reduce
from operator import add
from typing import Protocol, final

from kvspark.stats import NOTHING, RunStats


class Source(Protocol):
    """What knows counts of other processes."""

    @property
    def stats(self) -> RunStats:
        """All that it has heard of so far."""
        ...


@final
class Counted:
    """The counts of one cache object; on the process that made it."""

    def __init__(self) -> None:
        self._own = NOTHING
        self._sources: dict[str, Source] = {}

    def add(self, stats: RunStats) -> None:
        """Adds what this process counted."""
        self._own += stats

    def follow(self, name: str, source: Source) -> None:
        """Asks `source` from now on; one with the name of another takes its place."""
        self._sources[name] = source

    def source(self, name: str) -> Source | None:
        """The source that was given this name."""
        return self._sources.get(name)

    @property
    def stats(self) -> RunStats:
        """The sum of all."""
        return reduce(add, (source.stats for source in self._sources.values()), self._own)
