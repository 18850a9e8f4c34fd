"""The one place where trouble with a store becomes a miss and a count.

Nothing that a store does is raised from here, and no call waits longer than its deadline (see `call`).
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from copy import copy
from dataclasses import dataclass, field
from typing import TypeVar, final

from kvspark.cache.guard.call import SLOWEST_BYTES_PER_S, Call, Sent
from kvspark.cache.guard.wait_budget import DEADLINES, WaitBudget
from kvspark.store.base import Counts, Entries, Keys, Parts, Store
from kvspark.store.breaker import Breaker
from kvspark.store.deadline import Deadline
from kvspark.store.process import ProcessLock
from kvspark.store.trouble import FULL, REFUSED, SKIPPED, SLOW, reason_of

_LOG = logging.getLogger(__name__)

T = TypeVar("T")


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
        self.timeout_s = timeout_s
        self._clock = clock
        self._lock = ProcessLock()
        self._link = Breaker(clock=clock)
        self._writes = Breaker(clock=clock)
        self._budget = WaitBudget(timeout_s, clock=clock)
        self._errors: Counter[str] = Counter()
        self._degraded: set[str] = set()
        self.failures = 0
        """Calls that did not get through, or were not made."""

    def read(self, keys: Keys, *, value_bytes: int) -> Parts:
        """The values of `keys` in parts, None for what is missing or cannot be had.

        `value_bytes` is what a value has, about. Who looked what they are worth says so to
        `weigh`. What is done between two parts is no waiting for the store.
        """
        if not keys:
            return
        if not self._may_go(self._link):
            yield [None] * len(keys)
            return
        call = Call(self.timeout_s, self._clock)
        left = len(keys)
        try:
            windows = call.asked(keys, value_bytes)
            with closing(
                self._store.read(windows, call.deadline, value_bytes=value_bytes)
            ) as parts:
                for part in parts:
                    left -= len(part)
                    begun = self._clock()
                    yield part
                    call.rested(begun)
                    # The next one comes into its memory, which is near the processor still.
                    del part
        except Exception as exc:  # noqa: BLE001 - whatever a store raises is a miss
            self._not_read(exc)
            self._ended(call)
        else:
            self._ended(call, self._link)
        if left:
            yield [None] * left

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

    def write(self, windows: Iterable[Entries], *, ttl_s: float) -> Counts:
        """Bytes of the values that were taken, window by window.

        What `windows` needs to make its next one is no waiting for the store, and it is asked for none
        while nothing may be written.

        Raises:
            Exception: what `windows` raises, when the store has those before.
        """
        if not self._may_go(self._writes, self._link):
            return
        call = Call(self.timeout_s, self._clock)
        sent = Sent(windows, call)
        try:
            with closing(self._store.write(sent, call.deadline, ttl_s=ttl_s)) as counts:
                for count in counts:
                    yield sent.taken_bytes(count)
        except Exception as exc:  # noqa: BLE001 - the rows were computed, nothing is lost
            self._not_written(exc)
            self._ended(call)
        else:
            self._ended(call, *((self._link, self._writes) if call.windows else ()))
        self.weigh(0.0)
        if sent.fault is not None:
            raise sent.fault

    def ask(self, question: Callable[[Deadline], T]) -> T | None:
        """What `question`, which writes, gives in the time of one call; None if nothing could be had."""
        if not self._may_go(self._writes, self._link):
            return None
        call = Call(self.timeout_s, self._clock)
        call.moves(0)
        answer: T | None = None
        try:
            answer = question(call.deadline)
        except Exception as exc:  # noqa: BLE001 - who asks can do without an answer
            self._not_written(exc)
            self._ended(call)
        else:
            self._ended(call, self._link, self._writes)
        return answer

    def beside(self, store: Store) -> Guard:
        """A guard of `store`, which is this one's over another connection: with the same breakers and counts."""
        other = copy(self)
        other._store = store  # noqa: SLF001 - a copy of this
        return other

    def patience_s(self, size_bytes: int) -> float:
        """How long so many bytes that are on their way are waited for when nothing else is left to do."""
        return DEADLINES * self.timeout_s + size_bytes / SLOWEST_BYTES_PER_S

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

    def _may_go(self, *breakers: Breaker) -> bool:
        with self._lock:
            for breaker in breakers:
                reason = breaker.reason
                if not breaker.allows():
                    self.failures += 1
                    self._errors[SKIPPED] += 1
                    self._degraded.add(reason)
                    return False
        return True

    def _ended(self, call: Call, *breakers: Breaker) -> None:
        """Counts what was waited, and that it went well for `breakers`."""
        with self._lock:
            for breaker in breakers:
                breaker.succeeded()
            self._budget.waited(call.took_s(), calls=call.windows, moved_s=call.moved_s)

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


def _tell(what: str, reason: str, exc: Exception) -> None:
    if reason == REFUSED:
        _LOG.error("the cache %s in this process any more (%s): %s", what, reason, exc)
    else:
        _LOG.warning("the cache %s for now (%s): %s", what, reason, exc)
