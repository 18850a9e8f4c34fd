"""Store I/O beside the computation: one thread looks rows up ahead, and inserts rows behind.

    around    a stage's cache whose rows are inserted while the next ones are computed
    ahead     asks for rows that will be looked up soon
    flush     waits for what was inserted, for as long as the guard's patience, and drops what is left

The thread has a connection of its own, and the breakers and the debt of waiting of everybody else: a store
that is away is not waited for twice. It does one thing after the other, in the order in which it was
asked, so that a look-up finds what was inserted before. Rows for which there is no room are
inserted by the caller. The thread ends when nothing is left to do; a process that dies with rows on
their way has written each of them whole or not at all, and they are computed again. A forked child
starts with nothing: what its parent was asked for is the parent's to do.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import final

from kvspark.cache.entry.writer import row_sizes
from kvspark.cache.guard.guard import Guard
from kvspark.cache.stage.stage_cache import Lookup, Reader, StageCache, Writer
from kvspark.spec import Rows
from kvspark.stats import StageStats

_LOG = logging.getLogger(__name__)

DROPPED = "dropped"
"""Counted by rows that were not stored, because a flush was out of time."""

FAILED = "failed"
"""Counted by rows that were not stored, because of a mistake: the log names its kind."""

_PER_ROW_BYTES = 256
"""What a row takes on its way besides its tensors."""


@final
@dataclass(slots=True, eq=False)
class _Task:
    """Something for the thread to do."""

    work: Callable[[], None]
    digests: Sequence[bytes] = ()
    """That it inserts."""
    size_bytes: int = 0


@final
class Overlap:
    """The thread of one process, with results of at most `max_bytes` on their way; `guard` is that of its store.

    Where it `looks_ahead`, the store of `guard` has a connection of its own: in turns with the other calls,
    look-ups ahead would make those wait.
    """

    def __init__(self, guard: Guard, max_bytes: int, *, looks_ahead: bool) -> None:
        self.guard = guard
        self._max_bytes = max_bytes
        self._looks_ahead = looks_ahead
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._tasks: deque[_Task] = deque()
        self._at_work: _Task | None = None
        self._abandoned: _Task | None = None
        """What the last flush did not wait for any more."""
        self._held_bytes = 0
        self._written: Counter[str] = Counter()
        self._asked: weakref.WeakSet[Ahead] = weakref.WeakSet()

    def around(self, cache: StageCache, beside: StageCache, stage: str) -> StageCache:
        """`cache`, whose rows are inserted, and looked up ahead, by way of `beside`: the same over `guard`."""
        return replace(
            cache,
            reader=_Settled(self, cache.reader),
            writer=_Behind(self, stage, cache.writer, beside.writer),
            ahead=beside.reader if self._looks_ahead else None,
        )

    def ahead(self, reader: Reader, digests: Sequence[bytes]) -> Ahead:
        """Has the distinct rows looked up by `reader` as soon as what was asked for before is done."""
        ahead = Ahead(self, digests)
        ahead.task = _Task(lambda: ahead.look(reader))
        with self._own():
            self._asked.add(ahead)
            self._add(ahead.task)
        return ahead

    def insert(self, task: _Task) -> bool:
        """True if the thread is going to; False if there is no room, or no thread to be had."""
        with self._own():
            for ahead in self._asked:
                ahead.inserted.update(task.digests)
            if self._held_bytes + task.size_bytes > self._max_bytes or not self._add(task):
                return False
            self._held_bytes += task.size_bytes
        return True

    def written(self, stage: str, size_bytes: int) -> None:
        """Tells what was written."""
        with self._changed:
            self._written[stage] += size_bytes

    def settle(self, digests: Sequence[bytes]) -> None:
        """Returns when none of `digests` waits to be inserted, or when patience is over."""
        with self._own():
            if self._held_bytes:
                patience_s = self.guard.patience_s(self._held_bytes)
                wanted = frozenset(digests)
                self._changed.wait_for(lambda: not self._holds(wanted), timeout=patience_s)

    def is_done(self, task: _Task) -> bool:
        """True when it is; False if it was not begun, and never will be, or when patience is over."""
        with self._own():
            if task in self._tasks:
                self._tasks.remove(task)
                return False
            patience_s = self.guard.patience_s(0)
            return self._changed.wait_for(lambda: self._at_work is not task, patience_s)

    def flush(self) -> dict[str, StageStats]:
        """What was written since the last flush, by stage, and what was waited for it.

        Rows that are not written in time are dropped; the one call that may be under way ends by its own
        deadline, and nobody waits for it again.
        """
        started = time.perf_counter()
        with self._own():
            patience_s = self.guard.patience_s(self._held_bytes)
            self._changed.wait_for(
                lambda: not self._tasks and self._at_work in (None, self._abandoned), patience_s
            )
            rows = sum(len(task.digests) for task in self._tasks)
            self._held_bytes -= sum(task.size_bytes for task in self._tasks)
            self._tasks.clear()
            self._abandoned = self._at_work
            written, self._written = self._written, Counter()
        if rows:
            self.guard.gave_up(DROPPED, rows)
            _LOG.warning("the cache takes rows too slowly: %d of them were not stored", rows)
        waited_s = (time.perf_counter() - started) / max(1, len(written))
        return {
            stage: StageStats(bytes_written=n, seconds_insert=waited_s)
            for stage, n in written.items()
        }

    def _holds(self, digests: frozenset[bytes]) -> bool:
        tasks = [*self._tasks]
        if self._at_work is not None and self._at_work is not self._abandoned:
            tasks.append(self._at_work)
        return any(not digests.isdisjoint(task.digests) for task in tasks)

    def _add(self, task: _Task) -> bool:
        """Puts it at the end; False if there is nobody to do it."""
        if self._thread is None:
            # A daemon: an interpreter that ends does not wait for a store that hangs.
            thread = threading.Thread(target=self._serve, name="kvspark-overlap", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the system has none to give, or the interpreter ends
                return False
            self._thread = thread
        self._tasks.append(task)
        return True

    def _serve(self) -> None:
        while True:
            with self._changed:
                done = self._at_work
                self._held_bytes -= done.size_bytes if done else 0
                self._at_work = self._tasks.popleft() if self._tasks else None
                self._changed.notify_all()
                if self._at_work is None:
                    self._thread = None
                    return
            self._at_work.work()

    def _own(self) -> threading.Condition:
        if self._pid != os.getpid():
            self._start()  # a thread of the parent may have held the lock
        return self._changed


@final
class Ahead:
    """Distinct rows that were asked for ahead."""

    task: _Task

    def __init__(self, overlap: Overlap, digests: Sequence[bytes]) -> None:
        self._overlap = overlap
        self._digests = digests
        self._found: Lookup | None = None
        self.inserted: set[bytes] = set()
        """Since then, by this process."""

    def look(self, reader: Reader) -> None:
        """For the thread."""
        with suppress(Exception):  # who wants to know looks again, and raises it
            self._found = reader.lookup(self._digests)

    def lookup(self) -> Lookup | None:
        """What is known of all rows; None if nobody has looked, or rows that were missing are there by now."""
        if not self._overlap.is_done(self.task) or self._found is None:
            return None
        if self.inserted:
            hits = self._found.found.tolist()
            missing = [each for each, hit in zip(self._digests, hits, strict=True) if not hit]
            if not self.inserted.isdisjoint(missing):
                return None
        return self._found


@final
class _Settled:
    """Looks rows up when they are written."""

    def __init__(self, overlap: Overlap, reader: Reader) -> None:
        self._overlap = overlap
        self._reader = reader

    def lookup(self, digests: Sequence[bytes]) -> Lookup:
        self._overlap.settle(digests)
        return self._reader.lookup(digests)


@final
class _Behind:
    """Has rows inserted by `behind`, in the thread; where that cannot take them, by `now`."""

    def __init__(self, overlap: Overlap, stage: str, now: Writer, behind: Writer) -> None:
        self._overlap = overlap
        self._stage = stage
        self._now = now
        self._behind = behind

    def insert(self, digests: Sequence[bytes], columns: tuple[Rows, ...], *, cost_us: int) -> int:
        """What was written now; `Overlap.flush` tells the rest."""

        def write() -> None:
            try:
                written = self._behind.insert(digests, columns, cost_us=cost_us)
            except Exception as exc:  # noqa: BLE001 - nobody is above this; later rows are written
                self._overlap.guard.gave_up(FAILED, len(digests))
                _LOG.error("rows were not stored, because of a %s", type(exc).__name__)
            else:
                self._overlap.written(self._stage, written)

        size_bytes = sum(int(row_sizes(rows).sum()) for rows in columns)
        task = _Task(write, digests, size_bytes + _PER_ROW_BYTES * len(digests))
        if not len(digests) or self._overlap.insert(task):
            return 0
        return self._now.insert(digests, columns, cost_us=cost_us)
