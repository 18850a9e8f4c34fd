"""The one place where trouble with a store becomes a miss and a count.

Nothing that a store does is raised from here, and no call takes longer than its deadline: the
configured time-out for everything, and what the bytes asked for take at a slow 50 MB/s.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import TypeVar, final

from kvspark.cache.breaker import Breaker
from kvspark.cache.store.base import Store
from kvspark.cache.store.process import ProcessLock
from kvspark.cache.store.slab import Part
from kvspark.cache.store.trouble import FULL, REFUSED, SKIPPED, SLOW, reason_of
from kvspark.cache.wait_budget import DEADLINES, WaitBudget
from kvspark.cache.windows import even_windows

_LOG = logging.getLogger(__name__)

T = TypeVar("T")

SLOWEST_BYTES_PER_S = 50e6
"""A server that moves less is not waited for."""


@final
@dataclass(frozen=True, slots=True)
class CacheStats:
    """What did not go as it should since the last drain."""

    errors: Mapping[str, int] = field(default_factory=dict)
    """By reason: calls to the store, and values that were not the entries looked for."""
    degraded: frozenset[str] = frozenset()
    """Why the store was not, or not always, used."""


@final
class Guard:
    """A store that never fails and is never waited for long; safe between threads.

    Two breakers: `_link` for a store that does not answer, or not soon enough to be worth it, and
    `_writes` for one that answers and takes no writes. A write that was not answered counts for
    both; a read that was closes `_link`.
    """

    def __init__(
        self, store: Store, *, timeout_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._timeout_s = timeout_s
        self._clock = clock
        self._lock = ProcessLock()
        self._link = Breaker(clock=clock)
        self._writes = Breaker(clock=clock)
        self._budget = WaitBudget(timeout_s, clock=clock)
        self._errors: Counter[str] = Counter()
        self._degraded: set[str] = set()
        self.failures = 0
        """Calls that did not get through, or were not made."""

    def get_each(
        self, keys: Sequence[bytes], take: Callable[[Part], None], *, expected_bytes: int
    ) -> None:
        """Gives `take` the values of `keys` in parts, None for what is missing or cannot be had.

        `expected_bytes` is what a value has, about. Who looked what they are worth says so to
        `weigh`. What `take` needs is no waiting for the store.
        """
        if not keys:
            return
        if not self._may_go(self._link):
            take([None] * len(keys))
            return
        call = _Call(self._clock, self._timeout_s)

        def windows() -> Iterator[Sequence[bytes]]:
            for place in even_windows(len(keys), expected_bytes):
                window = keys[place]
                call.moves(len(window) * expected_bytes)
                yield window

        taker = _Taker(take, call)
        try:
            self._store.get_each(windows(), taker, value_bytes=expected_bytes, left_s=call.left_s)
        except Exception as exc:
            # Whatever a store raises is a miss; a fault of the decoder's is none of the store's.
            if taker.is_at_work:
                raise
            self._not_read(exc)
            take([None] * (len(keys) - taker.count))
        else:
            self._went_well(self._link)
        self._count_waiting(call)

    @property
    def is_owed(self) -> bool:
        """True if the store has been slow, so that `weigh` must know what its hits are worth."""
        return self._budget.is_owed

    def weigh(self, saved_s: float) -> None:
        """Sets what the hits of a look-up would have taken to compute against what was waited."""
        with self._lock:
            self._budget.saved(saved_s)
            opened = self._budget.is_spent and not self._link.reason
            if opened:
                self._note(SLOW)
                self._link.trip(SLOW)
        if opened:
            _LOG.warning("the cache is not asked for now: it takes longer than it saves")

    def distrust(self) -> None:
        """Throws the connection away: what came over it may be the answer to another question."""
        self._store.close()

    def set_each(self, windows: Iterable[Sequence[tuple[bytes, bytes]]], *, ttl_s: float) -> int:
        """Bytes of the values that were taken.

        What `windows` needs to make its next one is no waiting for the store, and it is asked for none
        while nothing may be written.
        """
        if not self._may_go(self._writes) or not self._may_go(self._link):
            return 0
        call = _Call(self._clock, self._timeout_s)
        giver = _Giver(windows, call)
        try:
            self._store.set_each(iter(giver), giver.took, ttl_s=ttl_s, left_s=call.left_s)
        except Exception as exc:
            # The rows were computed, nothing is lost; a fault of the encoder's is none of the store's.
            if giver.is_at_work:
                raise
            self._not_written(exc)
        else:
            if call.windows:
                self._went_well(self._link, self._writes)
        self._count_waiting(call)
        self.weigh(0.0)
        return giver.written_bytes

    def ask(self, question: Callable[[float], T]) -> T | None:
        """What `question`, which writes, gives in the seconds of one call; None if nothing could be had."""
        if not self._may_go(self._writes) or not self._may_go(self._link):
            return None
        call = _Call(self._clock, self._timeout_s)
        call.moves(0)
        answer: T | None = None
        try:
            answer = question(call.left_s())
        except Exception as exc:  # noqa: BLE001 - who asks can do without an answer
            self._not_written(exc)
        else:
            self._went_well(self._link, self._writes)
        self._count_waiting(call)
        return answer

    def beside(self, store: Store) -> Guard:
        """A guard of `store`, which is this one's over another connection: with the same breakers and counts."""
        other = copy(self)
        other._store = store  # noqa: SLF001 - a copy of this
        return other

    def patience_s(self, size_bytes: int) -> float:
        """How long so many bytes that are on their way are waited for when nothing else is left to do."""
        return DEADLINES * self._timeout_s + size_bytes / SLOWEST_BYTES_PER_S

    def gave_up(self, reason: str, rows: int) -> None:
        """Counts rows that were not stored."""
        with self._lock:
            self._errors[reason] += rows
            self._degraded.add(reason)

    def count(self, errors: Mapping[str, int]) -> None:
        """Adds to the errors by reason."""
        with self._lock:
            self._errors.update(errors)

    def since_drain(self) -> CacheStats:
        """What happened since the last drain, which stays to be drained."""
        with self._lock:
            return CacheStats(dict(self._errors), frozenset(self._degraded))

    def drain(self) -> CacheStats:
        """What happened since the last drain."""
        parts = self._store.drain()
        with self._lock:
            self._errors.update(parts)
            self._degraded.update(parts)
            stats = CacheStats(dict(self._errors), frozenset(self._degraded))
            self._errors.clear()
            self._degraded.clear()
        return stats

    def _count_waiting(self, call: _Call) -> None:
        with self._lock:
            self._budget.waited(call.took_s(), calls=call.windows, moved_s=call.moved_s)

    def _may_go(self, breaker: Breaker) -> bool:
        with self._lock:
            reason = breaker.reason
            may_go = breaker.allows()
            if not may_go:
                self.failures += 1
                self._errors[SKIPPED] += 1
                self._degraded.add(reason)
        return may_go

    def _went_well(self, *breakers: Breaker) -> None:
        with self._lock:
            for breaker in breakers:
                breaker.succeeded()

    def _not_read(self, exc: Exception) -> None:
        reason = reason_of(exc)
        with self._lock:
            self._note(reason)
            if reason == REFUSED:
                opened = self._link.trip(reason, for_good=True)
            else:
                opened = self._link.failed(reason)
        if opened:
            _tell("is not asked", reason, exc)

    def _not_written(self, exc: Exception) -> None:
        reason = reason_of(exc)
        with self._lock:
            self._note(reason)
            if reason in (REFUSED, FULL):
                opened = self._writes.trip(reason, for_good=reason == REFUSED)
            else:
                opened = self._writes.failed(reason)
                self._link.failed(reason)
        if opened:
            _tell("stores nothing", reason, exc)

    def _note(self, reason: str) -> None:
        self.failures += 1
        self._errors[reason] += 1
        self._degraded.add(reason)


@final
class _Call:
    """The time that one call of many windows has: one deadline, and what its bytes take."""

    def __init__(self, clock: Callable[[], float], timeout_s: float) -> None:
        self._clock = clock
        self._timeout_s = timeout_s
        self._started = clock()
        self.windows = 0
        self.moved_s = 0.0

    def moves(self, size_bytes: int) -> None:
        """Makes room for another window."""
        self.windows += 1
        self.moved_s += size_bytes / SLOWEST_BYTES_PER_S

    def rests(self, work: Callable[[], T]) -> T:
        """What `work` gives, whose time is not the store's."""
        begun = self._clock()
        done = work()
        self._started += self._clock() - begun
        return done

    def took_s(self) -> float:
        """Seconds since the call began, without its rests."""
        return self._clock() - self._started

    def left_s(self) -> float:
        """Seconds until its deadline.

        Raises:
            TimeoutError: there are none.
        """
        left_s = self._timeout_s + self.moved_s - self.took_s()
        if left_s <= 0:
            raise TimeoutError
        return left_s


@final
class _Taker:
    """Takes the parts of a call, and knows whether it is at it."""

    def __init__(self, take: Callable[[Part], None], call: _Call) -> None:
        self._take = take
        self._call = call
        self.count = 0
        self.is_at_work = False

    def __call__(self, part: Part) -> None:
        self.is_at_work = True
        self._call.rests(lambda: self._take(part))
        self.count += len(part)
        self.is_at_work = False


@final
class _Giver:
    """Gives the windows of a call, and knows whether it is at it and what became of them."""

    def __init__(self, windows: Iterable[Sequence[tuple[bytes, bytes]]], call: _Call) -> None:
        self._windows = windows
        self._call = call
        self._sent: deque[tuple[int, int]] = deque()
        self.written_bytes = 0
        self.is_at_work = False

    def __iter__(self) -> Iterator[Sequence[tuple[bytes, bytes]]]:
        source = iter(self._windows)
        while True:
            self.is_at_work = True
            window = self._call.rests(lambda: next(source, None))
            self.is_at_work = False
            if window is None:
                return
            size_bytes = sum([len(value) for _, value in window])
            self._call.moves(size_bytes)
            self._sent.append((len(window), size_bytes))
            yield window

    def took(self, count: int) -> None:
        """So many of the oldest window were taken."""
        sent, size_bytes = self._sent.popleft()
        self.written_bytes += size_bytes * count // sent


def _tell(what: str, reason: str, exc: Exception) -> None:
    if reason == REFUSED:
        _LOG.error("the cache %s in this process any more (%s): %s", what, reason, exc)
    else:
        _LOG.warning("the cache %s for now (%s): %s", what, reason, exc)
