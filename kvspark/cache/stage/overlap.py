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
from concurrent.futures import Future, wait
from dataclasses import dataclass, field, replace
from functools import partial
from typing import final

from kvspark.cache.entry.writer import row_sizes
from kvspark.cache.guard.guard import Guard
from kvspark.cache.stage.ahead import Ahead
from kvspark.cache.stage.stage_cache import Lookup, Reader, StageCache
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

    work: Callable[[], int | Lookup]
    digests: Sequence[bytes] = ()
    """That it inserts, at `stage`."""
    stage: str = ""
    size_bytes: int = 0
    done: Future[int | Lookup] = field(default_factory=Future)
    is_abandoned: bool = False
    """True when a flush has not waited for it any more."""


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
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._tasks: deque[_Task] = deque()
        """The thread is at the first."""
        self._written: Counter[str] = Counter()
        self._asked: weakref.WeakSet[Ahead] = weakref.WeakSet()

    def around(self, cache: StageCache, beside: StageCache, stage: str) -> StageCache:
        """`cache`, whose rows are inserted, and looked up ahead, by way of `beside`: the same over `guard`."""
        entries = _Entries(self, stage, cache, beside)
        ahead = beside.reader if self._looks_ahead else None
        return replace(cache, reader=entries, writer=entries, ahead=ahead)

    def ahead(self, reader: Reader, digests: Sequence[bytes]) -> Ahead:
        """Has the distinct rows looked up by `reader` as soon as what was asked for before is done."""
        task = _Task(partial(reader.lookup, digests))
        ahead = Ahead(self.guard, digests, task.done)
        with self._own():
            self._asked.add(ahead)
            self._add(task)
        return ahead

    def insert(self, task: _Task) -> bool:
        """True if the thread is going to; False if there is no room, or no thread to be had."""
        with self._own():
            for ahead in self._asked:
                ahead.inserted.update(task.digests)
            return self._held_bytes() + task.size_bytes <= self._max_bytes and self._add(task)

    def settle(self, digests: Sequence[bytes]) -> None:
        """Returns when none of `digests` waits to be inserted, or when patience is over."""
        if self._tasks:
            self._wait(frozenset(digests))

    def flush(self) -> dict[str, StageStats]:
        """What was written since the last flush, by stage, and what was waited for it.

        Rows that are not written in time are dropped; the one call that may be under way ends by its own
        deadline, and nobody waits for it again.
        """
        started = time.perf_counter()
        tasks = self._wait(None)
        rows = sum(len(each.digests) for each in tasks if each.done.cancel())
        with self._lock:
            for each in tasks:
                each.is_abandoned = True
            written, self._written = self._written, Counter()
        if rows:
            self.guard.gave_up(DROPPED, rows)
            _LOG.warning("the cache takes rows too slowly: %d of them were not stored", rows)
        waited_s = (time.perf_counter() - started) / max(1, len(written))
        return {
            stage: StageStats(bytes_written=n, seconds_insert=waited_s)
            for stage, n in written.items()
        }

    def _held_bytes(self) -> int:
        return sum(each.size_bytes for each in self._tasks if not each.done.done())

    def _wait(self, digests: frozenset[bytes] | None) -> list[_Task]:
        """The tasks that insert one of `digests`, or all tasks: done, or patience is over."""
        with self._own():
            tasks = [
                each
                for each in self._tasks
                if not (each.is_abandoned or each.done.done())
                and (digests is None or not digests.isdisjoint(each.digests))
            ]
            patience_s = self.guard.patience_s(self._held_bytes())
        wait([each.done for each in tasks], patience_s)
        return tasks

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
            with self._lock:
                if not self._tasks:
                    self._thread = None
                    return
                task = self._tasks[0]
            if task.done.set_running_or_notify_cancel():
                self._do(task)
            with self._lock:
                self._tasks.popleft()

    def _do(self, task: _Task) -> None:
        try:
            result = task.work()
        except Exception as exc:  # noqa: BLE001 - later rows are written; who wants to know looks again
            if task.stage:
                self.guard.gave_up(FAILED, len(task.digests))
                _LOG.error("rows were not stored, because of a %s", type(exc).__name__)
            task.done.set_exception(exc)
            return
        if isinstance(result, int):
            with self._lock:
                self._written[task.stage] += result
        task.done.set_result(result)

    def _own(self) -> threading.Lock:
        if self._pid != os.getpid():
            self._start()  # a thread of the parent may have held the lock
        return self._lock


@final
@dataclass(frozen=True)
class _Entries:
    """A stage's rows: inserted by the thread, or now where it cannot take them, and looked up when they are."""

    overlap: Overlap
    stage: str
    now: StageCache
    behind: StageCache

    def lookup(self, digests: Sequence[bytes]) -> Lookup:
        self.overlap.settle(digests)
        return self.now.lookup(digests)

    def insert(self, digests: Sequence[bytes], columns: tuple[Rows, ...], *, cost_us: int) -> int:
        """What was written now; `Overlap.flush` tells the rest."""
        work = partial(self.behind.insert, digests, columns, cost_us=cost_us)
        size_bytes = sum(int(row_sizes(rows).sum()) for rows in columns)
        size_bytes += _PER_ROW_BYTES * len(digests)
        if not len(digests) or self.overlap.insert(_Task(work, digests, self.stage, size_bytes)):
            return 0
        return self.now.insert(digests, columns, cost_us=cost_us)
