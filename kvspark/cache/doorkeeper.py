"""Rows that are written when they are seen for the second time: for reuse that is skewed.

Where most rows come once and a few again and again, what comes once pushes out what comes again. Here
a row that is computed for the first time leaves a mark (`kvspark.cache.sightings`) and no entry.
Every row is looked up, because nobody knows which ones were let in.

On a scan that comes every night all rows come again, and are all let in: there the threshold of
`kvspark.cache.admission` is right. Where both are wanted, a row is written if the threshold admits it
or if it was seen before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, final

import numpy as np

from kvspark.cache.entries import Entries, insert_some
from kvspark.cache.lease import AdmittedLeases, RowLeases
from kvspark.cache.sightings import Mask, RowSightings
from kvspark.spec import Rows
from kvspark.stats import StageStats

if TYPE_CHECKING:
    from kvspark.cache.keyspace import Lookup

Admits = Callable[[Sequence[bytes]], Mask]
"""Which of the digests are let in."""

_CLAIMED = 1 << 16
"""Rows that were claimed and are not inserted yet, at the most; what is forgotten is let in early."""


@final
class Doorkeeper:
    """Lets in what `admits` admits, and what was seen before."""

    def __init__(self, admits: Admits, sightings: RowSightings) -> None:
        self._admits = admits
        self._sightings = sightings
        self._new: set[bytes] = set()
        """Rows that were new when they were claimed, and that this process computes now."""

    def lets_in(self, digests: Sequence[bytes]) -> Mask:
        """Which of the rows, computed now, are written; each call is a sighting of all rows."""
        claimed = np.array([digest in self._new for digest in digests], dtype=np.bool_)
        self._new.difference_update(digests)
        return self._asked(digests, claimed)

    def would_let_in(self, digests: Sequence[bytes]) -> Mask:
        """Which of the rows will be written when they are computed; a sighting of all, once a row."""
        claimed = np.array([digest in self._new for digest in digests], dtype=np.bool_)
        let_in = self._asked(digests, claimed)
        if len(self._new) > _CLAIMED:
            self._new.clear()
        self._new.update(digests[i] for i in np.flatnonzero(~let_in).tolist())
        return let_in

    def _asked(self, digests: Sequence[bytes], known: Mask) -> Mask:
        """As it is for those that are not `known` to be new."""
        let_in = self._admits(digests)
        asked = np.flatnonzero(~let_in & ~known)
        if len(asked):
            let_in[asked] = self._sightings.seen([digests[i] for i in asked.tolist()])
        return let_in


@final
class DoorkeptEntries:
    """The entries of one stage, of rows that `door` lets in; `turned_away` is told how many it did not."""

    def __init__(
        self, entries: Entries, door: Doorkeeper, turned_away: Callable[[int], None]
    ) -> None:
        self._entries = entries
        self._door = door
        self._turned_away = turned_away

    def digests(
        self, rows: Sequence[bytes], subjects: Sequence[bytes] | None = None
    ) -> list[bytes]:
        """The digest of each row's canonical bytes, bound to its subject where there are `subjects`."""
        return self._entries.digests(rows, subjects)

    def lookup(self, digests: Sequence[bytes]) -> Lookup:
        """What is known of the digests."""
        return self._entries.lookup(digests)

    def insert(self, digests: Sequence[bytes], columns: tuple[Rows, ...], *, cost_us: int) -> int:
        """Bytes that were written, of the rows that are let in."""
        let_in = self._door.lets_in(digests)
        self._turned_away(len(digests) - int(let_in.sum()))
        return insert_some(self._entries, let_in, digests, columns, cost_us=cost_us)

    def flush(self) -> StageStats:
        """Waits for what was inserted, as `Entries.flush`."""
        return self._entries.flush()

    def leases(self) -> RowLeases | None:
        """Who computes which of the rows that will be stored: for one that is new nobody could wait.

        To be claimed is a sighting: who claims a row that another one is computing finds that it was
        seen, and writes it.
        """
        leases = self._entries.leases()
        return leases and AdmittedLeases(leases, self._door.would_let_in)

    def sightings(self) -> RowSightings | None:
        """What was seen of the rows."""
        return self._entries.sightings()
