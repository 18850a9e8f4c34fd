"""Entries of a stage that is said to have none: most of its rows are not looked up.

Who says so may be wrong: what it knew is lost or old, or another run is writing at this moment. So one
row in PROBE is looked up all the same, and the first one that is found ends it for this process. Of
the hits that there are, each has one chance in PROBE to be looked up: a wrong claim costs a process
some PROBE rows, which it computes, and never a wrong one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np

from kvspark.cache.entries import Entries
from kvspark.cache.keyspace import Lookup
from kvspark.cache.lease import RowLeases, TellingLeases
from kvspark.spec import Rows
from kvspark.stats import StageStats

PROBE = 16
"""One row in so many is looked up: the rest of the work is a sixteenth."""


@final
class ProbedEntries:
    """The entries of one stage, which is said to have none."""

    def __init__(self, entries: Entries) -> None:
        self._entries = entries
        self._is_believed = True

    def digests(
        self, rows: Sequence[bytes], subjects: Sequence[bytes] | None = None
    ) -> list[bytes]:
        """The digest of each row's canonical bytes, bound to its subject where there are `subjects`."""
        return self._entries.digests(rows, subjects)

    def lookup(self, digests: Sequence[bytes]) -> Lookup:
        """What is known of some of the digests, and of all of them once one was found."""
        if self._is_believed:
            lookup = self._entries.lookup(digests[::PROBE])
            if not lookup.found.any():
                found = np.zeros(len(digests), dtype=bool)
                skipped = len(digests) - len(lookup.found)
                return Lookup(found, lookup.columns, lookup.size_bytes, skipped)
            self._is_believed = False
        return self._entries.lookup(digests)

    def insert(self, digests: Sequence[bytes], columns: tuple[Rows, ...], *, cost_us: int) -> int:
        """Bytes that were written."""
        return self._entries.insert(digests, columns, cost_us=cost_us)

    def flush(self) -> StageStats:
        """Waits for what was inserted, as `Entries.flush`."""
        return self._entries.flush()

    def leases(self) -> RowLeases | None:
        """Who computes which row. Where one is claimed, all rows are looked up from then on.

        To look one up costs nothing beside computing it, and others may be at it.
        """
        leases = self._entries.leases()
        return leases and TellingLeases(leases, self._stop_believing)

    def _stop_believing(self) -> None:
        self._is_believed = False
