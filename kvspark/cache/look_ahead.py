"""Look-ups ahead of the computation, made by a thread of its own.

    ahead           asks for rows that will be looked up soon
    Ahead.lookup    what was found of them, and what was inserted since
    lookup_ahead    the same of any rows, whoever asked for which of them
    Ahead.forget    nobody wants to know

The thread has a connection of its own, and the breakers and the debt of waiting of everybody else: what
it waits counts as if a call had waited, so that a store is left alone as soon as without it. It ends when
nothing is asked for. Who asks bounds how much. Rows that the thread has not begun with when they are
looked up, and all in a forked child, are looked up by the caller.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import final

import numpy as np
import numpy.typing as npt

from kvspark.cache.entries import Entries, GuardedEntries
from kvspark.cache.guard import Guard
from kvspark.cache.keyspace import Lookup
from kvspark.cache.lease import RowLeases
from kvspark.cache.work_queue import WorkQueue
from kvspark.spec import Rows
from kvspark.stats import StageStats

Places = npt.NDArray[np.intp]


@final
class LookAhead:
    """Looks up ahead for one caller; `reads` guards the store of the thread.

    `max_bytes` is what a caller may have read and asked for, before another batch is read.
    """

    def __init__(self, reads: Guard, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._reads = reads
        self._queue = _queue()

    def guarding(self, entries: GuardedEntries) -> GuardedEntries:
        """`entries`, for the thread."""
        return entries.guarded_by(self._reads)

    def ask(self, entries: AheadEntries, digests: Sequence[bytes]) -> Ahead:
        """Has the rows looked up as soon as those before them are."""
        queue = self._own()
        ahead = Ahead(self, queue, entries, digests)
        with queue.changed:
            queue.add(ahead)
        return ahead

    def taken(self, ahead: Ahead) -> Lookup | None:
        """What was found, when it is; None if that is not known, because nobody has looked.

        From then on nobody does. The call under way ends by its own deadline; what takes longer is
        not waited for.
        """
        queue = self._own()
        if ahead.queue is not queue:
            return None
        with queue.changed:
            if ahead in queue.waiting:
                queue.waiting.remove(ahead)
            else:
                queue.changed.wait_for(
                    lambda: queue.at_work is not ahead,
                    timeout=self._reads.patience_s(ahead.size_bytes),
                )
            return ahead.found

    def _own(self) -> WorkQueue[Ahead]:
        if not self._queue.is_own:
            self._queue = _queue()
        return self._queue


def _queue() -> WorkQueue[Ahead]:
    return WorkQueue(_look, "kvspark-look-ahead")


def _look(ahead: Ahead) -> None:
    with suppress(BaseException):  # who wants to know looks again, and raises it
        ahead.found = ahead.entries.reads.lookup(ahead.digests)


@final
class Ahead:
    """Distinct rows of one stage that were asked for ahead; for the thread that asked."""

    def __init__(
        self,
        ahead: LookAhead,
        queue: WorkQueue[Ahead],
        entries: AheadEntries,
        digests: Sequence[bytes],
    ) -> None:
        self._ahead = ahead
        self.queue = queue
        self.entries = entries
        self.digests = digests
        self.found: Lookup | None = None
        self.inserted: list[Sequence[bytes]] = []
        """Since then, by this process."""
        self.is_wanted = False
        """True once somebody wanted to know something of it."""

    @property
    def size_bytes(self) -> int:
        """Of what was found; as long as that is not known, of what all rows would take."""
        found = self.found
        if found is None:
            return len(self.digests) * self.entries.row_bytes
        return sum(
            sum(row.nbytes for row in rows) if isinstance(rows, list) else rows.nbytes
            for rows in found.columns
        )

    @cached_property
    def places(self) -> Mapping[bytes, int]:
        """Of each digest that was asked for."""
        return {digest: place for place, digest in enumerate(self.digests)}

    def lookup(self, digests: Sequence[bytes]) -> Lookup:
        """What is known of `digests`, some of those that were asked for in their order; once.

        As `Entries.lookup`, but that what others inserted since may be missing.
        """
        known = self.known(digests)
        self.forget()
        return self.entries.lookup(digests) if known is None else known

    def known(self, digests: Sequence[bytes]) -> Lookup | None:
        """As `lookup`, of any of those that were asked for, and more than once; None if nobody has looked."""
        self.is_wanted = True
        found = self._ahead.taken(self)
        if found is None:
            return None
        if len(digests) == len(self.digests):
            # The caller may write to the rows.
            self.found = None
        if digests != self.digests:
            found = _some(found, [self.places[digest] for digest in digests])
        inserted = set().union(*self.inserted) if self.inserted else frozenset[bytes]()
        missing = np.flatnonzero(~found.found).tolist() if inserted else []
        again = np.array([row for row in missing if digests[row] in inserted], dtype=np.intp)
        if not len(again):
            return found
        return _with_more(found, again, self.entries.lookup([digests[row] for row in again]))

    @property
    def is_over(self) -> bool:
        """True once it was looked up for good, or forgotten."""
        return self not in self.entries.asked

    def forget(self) -> None:
        """Returns when nobody looks, or the call under way has had all its time; nothing if it was forgotten."""
        if not self.is_over:
            self._ahead.taken(self)
            self.entries.asked.remove(self)
            self.found = None


@final
class AheadEntries:
    """The entries of one stage, which can be asked for ahead: `reads` are those of the thread.

    `row_bytes` is what a row takes when it was found, about.
    """

    def __init__(
        self, entries: Entries, reads: Entries, ahead: LookAhead, *, row_bytes: int
    ) -> None:
        self._entries = entries
        self.reads = reads
        self._ahead = ahead
        self.row_bytes = row_bytes
        self.asked: list[Ahead] = []
        """What nobody has looked up or forgotten yet."""

    @property
    def max_bytes(self) -> int:
        """What may be read and asked for, before another batch is read."""
        return self._ahead.max_bytes

    def ahead(self, digests: Sequence[bytes]) -> Ahead:
        """Asks for distinct rows that will be looked up; to be looked up or forgotten once."""
        ahead = self._ahead.ask(self, digests)
        self.asked.append(ahead)
        return ahead

    def digests(
        self, rows: Sequence[bytes], subjects: Sequence[bytes] | None = None
    ) -> list[bytes]:
        """The digest of each row's canonical bytes, bound to its subject where there are `subjects`."""
        return self._entries.digests(rows, subjects)

    def lookup(self, digests: Sequence[bytes]) -> Lookup:
        """What is known of the digests, now."""
        return self._entries.lookup(digests)

    def lookup_ahead(self, digests: Sequence[bytes]) -> Lookup:
        """What is known of the distinct digests, from what was asked for ahead as far as it has them.

        What others inserted since may be missing.
        """
        lookup, left = _nothing(len(digests)), [*range(len(digests))]
        for ahead in self.asked if digests else ():
            mine = [row for row in left if digests[row] in ahead.places]
            known = ahead.known([digests[row] for row in mine]) if mine else None
            if known is not None:
                lookup = _with_more(lookup, np.array(mine), known)
                left = [row for row in left if digests[row] not in ahead.places]
            if not left:
                return lookup
        now = self._entries.lookup([digests[row] for row in left])
        return _with_more(lookup, np.array(left, dtype=np.intp), now)

    def insert(self, digests: Sequence[bytes], columns: tuple[Rows, ...], *, cost_us: int) -> int:
        """Bytes that were written."""
        for ahead in self.asked:
            ahead.inserted.append(digests)
        return self._entries.insert(digests, columns, cost_us=cost_us)

    def flush(self) -> StageStats:
        """Waits for what was inserted, as `Entries.flush`."""
        return self._entries.flush()

    def leases(self) -> RowLeases | None:
        """Who computes which row."""
        return self._entries.leases()


def _nothing(count: int) -> Lookup:
    """What is known of `count` rows before anybody has looked."""
    return Lookup(np.zeros(count, dtype=np.bool_), (), 0)


def _some(lookup: Lookup, places: Sequence[int]) -> Lookup:
    """What `lookup` says of the rows at `places`, in their order."""
    found = lookup.found[places]
    place = np.cumsum(lookup.found) - 1
    columns = tuple(_taken([rows], place[places][found]) for rows in lookup.columns)
    known = int(lookup.found.sum())
    size_bytes = lookup.size_bytes * int(found.sum()) // known if known else 0
    return Lookup(found, columns, size_bytes)


def _with_more(lookup: Lookup, places: Places, later: Lookup) -> Lookup:
    """`lookup`, and what was found later of the rows at `places`, which it lacks."""
    if len(places) == len(lookup.found):
        return later
    found = lookup.found.copy()
    found[places[later.found]] = True
    place = np.empty(len(found), dtype=np.intp)
    known = int(lookup.found.sum())
    place[lookup.found] = np.arange(known)
    place[places[later.found]] = known + np.arange(int(later.found.sum()))
    parts = (lookup.columns, later.columns) if lookup.columns else (later.columns,)
    columns = tuple(_taken(rows, place[found]) for rows in zip(*parts, strict=True))
    return Lookup(found, columns, lookup.size_bytes + later.size_bytes)


def _taken(parts: Sequence[Rows], places: Places) -> Rows:
    """The rows at `places` of `parts`, one after the other."""
    if any(isinstance(rows, list) for rows in parts):
        flat = [row for rows in parts for row in rows]
        return [flat[place] for place in places]
    return np.concatenate([np.asarray(rows) for rows in parts])[places]
