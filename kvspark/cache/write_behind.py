"""Inserts behind the computation: a queue that is bounded in bytes, emptied by a thread of its own.

    insert     puts rows into the queue; those for which there is no room are not stored: `dropped`
    lookup     finds rows that are in the queue without asking the store
    flush      waits for the queue, for as long as the guard's patience, and drops what is left

The thread has a connection of its own where the store has one to give, and the breakers and the
debt of waiting of everybody else: a store that is away is not waited for twice. It ends when the queue
is empty, so that there is none while nobody writes; a process that dies with rows in the queue has
written each of them whole or not at all, and they are computed again. A forked child starts with an
empty queue: what is in its parent's is the parent's to write.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import numpy as np
import numpy.typing as npt

from kvspark.cache.guard import Guard
from kvspark.cache.inserting import row_sizes
from kvspark.cache.keyspace import KeySpace, Lookup
from kvspark.cache.lease import RowLeases
from kvspark.cache.work_queue import WorkQueue
from kvspark.spec import Rows, TensorSpec
from kvspark.stats import StageStats

if TYPE_CHECKING:
    from kvspark.cache.cache import Cache

_LOG = logging.getLogger(__name__)

DROPPED = "dropped"
"""Counted by rows that were not stored, because the queue was full or the flush out of time."""

FAILED = "failed"
"""Counted by rows that were not stored, because of a mistake: the log names its kind."""

_PER_ROW_BYTES = 256
"""What a row takes in the queue besides its tensors: its digest, and its place in the index."""


@final
@dataclass(slots=True, eq=False)
class _Insert:
    """Rows on their way to the store."""

    space: KeySpace
    digests: Sequence[bytes]
    columns: tuple[Rows, ...]
    cost_us: int
    tally: _Tally
    size_bytes: int = 0
    """Of the queue."""

    def cut(self, count: int) -> None:
        """Leaves the first `count` rows, in memory of their own: the others' must not be held."""
        self.digests = self.digests[:count]
        self.columns = tuple(
            [row.copy() for row in rows[:count]] if isinstance(rows, list) else rows[:count].copy()
            for rows in self.columns
        )


@final
@dataclass(slots=True, eq=False)
class _Tally:
    """What was written of one stage and not told yet."""

    written_bytes: int = 0


@final
class _Queue:
    """The inserts of one process that are not done; whoever looks at it holds `work.changed`."""

    def __init__(self, write: Callable[[_Insert], None]) -> None:
        self.work = WorkQueue(write, "kvspark-write-behind")
        self.rows: dict[bytes, tuple[_Insert, int]] = {}
        """Of all inserts that wait or are being made, and the place there."""
        self.held_bytes = 0
        self.dropped = 0
        """Rows since the last flush."""
        self.abandoned: _Insert | None = None
        """What the last flush did not wait for any more."""

    def add(self, insert: _Insert) -> bool:
        """Puts it at the end; False if there is nobody to make it."""
        if not self.work.add(insert):
            return False
        self.held_bytes += insert.size_bytes
        self.rows.update({digest: (insert, row) for row, digest in enumerate(insert.digests)})
        return True

    def forget(self, insert: _Insert) -> None:
        """It was made, or is not going to be."""
        self.held_bytes -= insert.size_bytes
        for digest in insert.digests:
            if self.rows.get(digest, _NOWHERE)[0] is insert:
                del self.rows[digest]

    @property
    def is_done(self) -> bool:
        """True if there is nothing that is worth waiting for."""
        at_work = self.work.at_work
        return not self.work.waiting and (at_work is None or at_work is self.abandoned)


_NOWHERE = (None, 0)


@final
class WriteBehind:
    """Gives stages their entries in `cache`, with inserts that wait in at most `max_bytes`.

    `writes` guards the store of the thread. Safe between threads.
    """

    def __init__(self, cache: Cache, writes: Guard, max_bytes: int) -> None:
        self._cache = cache
        self._writes = writes
        self._max_bytes = max_bytes
        self._queue = _Queue(self._write)

    def keyspace(
        self, identity: bytes, specs: tuple[TensorSpec, ...], *, codec: str = "raw"
    ) -> BehindEntries:
        """The entries of the stage whose results `identity` names, as the cache's."""
        space = self._cache.keyspace(identity, specs, codec=codec)
        return BehindEntries(space, space.guarded_by(self._writes), self)

    def put(self, insert: _Insert) -> None:
        """Queues the first rows of `insert`, as many as there is room for; the others are dropped."""
        count = len(insert.digests)
        each = np.full(count, _PER_ROW_BYTES)
        sizes = np.cumsum(sum((row_sizes(rows) for rows in insert.columns), each))
        queue = self._own()
        with queue.work.changed:
            room = self._max_bytes - queue.held_bytes
            fit = int(np.searchsorted(sizes, room, side="right"))
            if fit:
                insert.size_bytes = int(sizes[fit - 1])
                if fit < count:
                    insert.cut(fit)
                if not queue.add(insert):
                    fit = 0
            queue.dropped += count - fit
        if fit < count:
            self._writes.gave_up(DROPPED, count - fit)

    def flush(self) -> None:
        """Returns when the queue is empty and its last row written, or when patience is over.

        What is in the queue by then is dropped; the one call that may be under way ends by its own
        deadline, and nobody waits for it again.
        """
        queue = self._own()
        with queue.work.changed:
            queue.work.changed.wait_for(
                lambda: queue.is_done, timeout=self._writes.patience_s(queue.held_bytes)
            )
            count = sum(len(each.digests) for each in queue.work.waiting)
            for insert in queue.work.waiting:
                queue.forget(insert)
            queue.work.waiting.clear()
            queue.abandoned = queue.work.at_work
            dropped, queue.dropped = queue.dropped + count, 0
        if count:
            self._writes.gave_up(DROPPED, count)
        if dropped:
            _LOG.warning(
                "the cache takes rows more slowly than they are computed: %d of them were not stored",
                dropped,
            )

    def waiting(self, digests: Sequence[bytes]) -> dict[int, tuple[_Insert, int]]:
        """Of those rows that are in the queue or being written, by place: the insert and the place there."""
        queue = self._own()
        with queue.work.changed:
            rows = queue.rows
            if not rows:
                return {}
            return {place: rows[each] for place, each in enumerate(digests) if each in rows}

    def written_bytes(self, tally: _Tally) -> int:
        """What `tally` holds, once."""
        with self._own().work.changed:
            written, tally.written_bytes = tally.written_bytes, 0
        return written

    def _write(self, insert: _Insert) -> None:
        written = 0
        try:
            written = insert.space.insert(insert.digests, insert.columns, cost_us=insert.cost_us)
        except BaseException as exc:  # noqa: BLE001 - nobody is above this; later rows are written
            self._writes.gave_up(FAILED, len(insert.digests))
            _LOG.error("rows were not stored, because of a %s", type(exc).__name__)
        queue = self._queue
        with queue.work.changed:
            insert.tally.written_bytes += written
            queue.forget(insert)

    def _own(self) -> _Queue:
        if not self._queue.work.is_own:
            self._queue = _Queue(self._write)
        return self._queue


@final
class BehindEntries:
    """The entries of one stage, which are inserted behind."""

    def __init__(self, entries: KeySpace, writes: KeySpace, queue: WriteBehind) -> None:
        self._entries = entries
        self._writes = writes
        self._queue = queue
        self._tally = _Tally()

    def guarded_by(self, guard: Guard) -> BehindEntries:
        """These entries, looked up through another guard; its own inserts are told apart."""
        return BehindEntries(self._entries.guarded_by(guard), self._writes, self._queue)

    def digests(
        self, rows: Sequence[bytes], subjects: Sequence[bytes] | None = None
    ) -> list[bytes]:
        """The digest of each row's canonical bytes, bound to its subject where there are `subjects`."""
        return self._entries.digests(rows, subjects)

    def lookup(self, digests: Sequence[bytes]) -> Lookup:
        """What is known of the digests, in the queue or in the store."""
        waiting = self._queue.waiting(digests)
        if not waiting:
            return self._entries.lookup(digests)
        is_own = np.zeros(len(digests), dtype=np.bool_)
        is_own[list(waiting)] = True
        stored = self._entries.lookup([digests[i] for i in np.flatnonzero(~is_own).tolist()])
        found = is_own.copy()
        found[~is_own] = stored.found
        columns = tuple(
            _merged(rows, is_own[found], [(i.columns[at], row) for i, row in waiting.values()])
            for at, rows in enumerate(stored.columns)
        )
        return Lookup(found, columns, stored.size_bytes)

    def insert(self, digests: Sequence[bytes], columns: tuple[Rows, ...], *, cost_us: int) -> int:
        """0: what is written is told by `flush`."""
        if len(digests):
            self._queue.put(_Insert(self._writes, digests, columns, cost_us, self._tally))
        return 0

    def flush(self) -> StageStats:
        """Waits for the queue, and says what was written since the last flush."""
        started = time.perf_counter()
        self._queue.flush()
        return StageStats(
            bytes_written=self._queue.written_bytes(self._tally),
            seconds_insert=time.perf_counter() - started,
        )

    def leases(self) -> RowLeases | None:
        """Who computes which row."""
        return self._entries.leases()


def _merged(stored: Rows, is_own: npt.NDArray[np.bool_], own: Sequence[tuple[Rows, int]]) -> Rows:
    """The rows of `stored` and copies of `own`, whose places are `is_own`, in their order."""
    if isinstance(stored, list):
        theirs, ours = iter(stored), iter(own)
        merged = []
        for mine in is_own.tolist():
            if mine:
                column, row = next(ours)
                merged.append(np.array(column[row]))
            else:
                merged.append(next(theirs))
        return merged
    table = np.empty((len(is_own), *stored.shape[1:]), dtype=stored.dtype)
    table[~is_own] = stored
    for place, (column, row) in zip(np.flatnonzero(is_own).tolist(), own, strict=True):
        table[place] = column[row]
    return table
