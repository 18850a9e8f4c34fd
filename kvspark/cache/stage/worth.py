"""Whether the cache of one stage pays, watched while a run goes on.

A look-up that takes longer than computing makes a run slower than one without a cache, and no store is
to blame. So what a stage's cache takes is a debt:

    + what hashing, look-ups and inserts took
    - what the rows that were found would have taken to compute, as their entries say
    - what the rows that were inserted took to compute, times the chance that they spare it: `COMES_AGAIN`, and
      `MADE_ANEW` of that where a stage behind this one has the same rows
    - `SHARE` of the time that passes

A store that forgets what was inserted a moment ago is found out by asking it for some of that now and then; what
it forgets is worth nothing.

Above `LIMIT_S` the stage rests: nothing is hashed, looked up or inserted, until time has paid the debt.
Then the store is asked again, until it has cost as much again. So of a run of T seconds at most `LIMIT_S` +
`SHARE` * T are lost in each worker. Where looking a row up takes longer than computing it, or the store
forgets all, no row pays, and any debt will do. A store that does not answer is the guard's affair
(`wait_budget`): of a call that fails no more is counted here than a healthy store takes.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import final

import numpy as np

from kvspark.cache.guard.call import SLOWEST_BYTES_PER_S
from kvspark.cache.guard.wait_budget import FREE_S
from kvspark.cache.stage.stage_cache import Digester, Lookup, Reader, StageCache, Writer
from kvspark.fingerprint import DIGEST_BYTES
from kvspark.spec import Rows
from kvspark.stats import FORGETS, OWES, SLOWER, Rest
from kvspark.store.windows import WINDOW_KEYS

LIMIT_S = 0.5
"""What is lost before a stage rests: some look-ups of cold rows are no reason."""

SHARE = 0.01
COMES_AGAIN = 0.5
"""The chance that a row which is inserted is asked for again."""

MADE_ANEW = 0.1
"""The chance that the stage behind is another one by then, so that this one is asked at all."""

_CALLS = 4
"""Of the last calls the fastest counts: the first one connects, or starts what torch starts once."""

_ASKED_BACK = 32
"""Rows of an insert that are looked up before a later one: 0.2 ms."""

_LATER = 16
"""Inserts between two such look-ups; the first ones are closer together."""

_CALL_ROWS = 256
"""A call of fewer rows says little of what a row takes: mostly the call is measured."""


def _utc() -> str:
    """Now, in ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


@final
class Worth:
    """The debt of one stage in one worker. Who changes it beside another thread may lose a call's part."""

    def __init__(
        self,
        *,
        again: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        utc: Callable[[], str] = _utc,
    ) -> None:
        """`again` is the chance that a row which is inserted spares its computation; `COMES_AGAIN` without it."""
        self.clock = clock
        self._utc = utc
        self._again = COMES_AGAIN if again is None else again
        self._debt_s = 0.0
        self._since = clock()
        self._is_resting = False
        self._last: Rest | None = None
        self._rest: Rest | None = None
        self._hashed_s = 0.0
        """Of rows that are not looked up yet."""
        self._fetching_s: deque[float] = deque(maxlen=_CALLS)
        """Seconds a row of the last look-ups."""
        self._computing_s: deque[float] = deque(maxlen=_CALLS)
        self._kept: deque[float] = deque(maxlen=_CALLS // 2)
        """The shares of rows that the store still had, when it was asked back."""

    def rests(self) -> bool:
        """True while the stage's store should be left alone."""
        now = self.clock()
        self._paid(SHARE * (now - self._since))
        self._since = now
        if self._debt_s <= 0:
            self._is_resting = False
        elif not self._is_resting and (reason := self._reason()) is not None:
            self._is_resting, self._last = True, reason
            self._rest = reason if self._rest is None else self._rest + reason
        return self._is_resting

    def rest(self) -> Rest | None:
        """Since when and why it rested, since this was called before; None if it did not."""
        told, self._rest = self._rest, self._last if self._is_resting else None
        return told

    def hashed(self, seconds: float) -> None:
        """Counts what naming rows took, with the look-up that follows."""
        self._hashed_s += seconds

    def looked_up(
        self,
        seconds: float,
        *,
        rows: int,
        size_bytes: int,
        is_answered: bool = True,
        hits: int = 0,
        saved_s: float = 0.0,
    ) -> None:
        """Counts a look-up of `rows` that took `seconds` and found `hits`, which took `saved_s` to compute."""
        hashed_s, self._hashed_s = self._hashed_s, 0.0
        self._debt_s += hashed_s
        self._took(seconds, rows, size_bytes, is_answered=is_answered)
        self._paid(saved_s)
        if rows >= _CALL_ROWS:
            self._fetching_s.append((hashed_s + seconds) / rows)
        if hits >= _CALL_ROWS:
            self._computing_s.append(saved_s / hits)

    def inserted(self, seconds: float, *, rows: int, size_bytes: int, row_s: float) -> None:
        """Counts an insert that took `seconds`, of `rows` that took `row_s` each to compute."""
        self._took(seconds, rows, size_bytes, is_answered=size_bytes > 0)
        kept = max(self._kept, default=1.0)
        self._paid(self._again * kept * rows * row_s)
        if rows >= _CALL_ROWS:
            self._computing_s.append(row_s)

    def asked_back(self, seconds: float, *, rows: int, kept: int) -> None:
        """Counts that of `rows` inserted a moment ago the store still had `kept`, which took `seconds` to see."""
        self._debt_s += seconds
        self._kept.append(kept / rows)

    @property
    def is_forgotten(self) -> bool:
        """True if the store had nothing of what it was asked back lately."""
        return len(self._kept) == self._kept.maxlen and not any(self._kept)

    def _took(self, seconds: float, rows: int, size_bytes: int, *, is_answered: bool) -> None:
        healthy_s = -(-rows // WINDOW_KEYS) * FREE_S + size_bytes / SLOWEST_BYTES_PER_S
        self._debt_s += seconds if is_answered else min(seconds, healthy_s)

    def _reason(self) -> Rest | None:
        """Why it should rest now, with the debt that it has; None if it should not."""
        at = self._utc()
        if self.is_forgotten:
            return Rest(at, {FORGETS: 1})
        if min(len(self._fetching_s), len(self._computing_s)) >= _CALLS // 2:
            lookup_s, compute_s = min(self._fetching_s), min(self._computing_s)
            if lookup_s >= compute_s:  # no hit rate pays
                return Rest(at, {SLOWER: 1}, 1e6 * lookup_s, 1e6 * compute_s)
        return Rest(at, {OWES: 1}) if self._debt_s > LIMIT_S else None

    def _paid(self, seconds: float) -> None:
        self._debt_s = max(0.0, self._debt_s - seconds)


def watched(cache: StageCache, worth: Worth | None) -> StageCache:
    """`cache`, left alone while `worth` says so; without it, as it is, and so where workers lease its rows."""
    if worth is None or cache.leases is not None:
        return cache
    return replace(
        cache,
        digester=_WatchedDigester(cache.digester, worth),
        reader=_WatchedReader(cache.reader, worth),
        writer=_WatchedWriter(cache.writer, cache.reader, worth),
        rests=worth.rests,
        rest=worth.rest,
    )


@final
class _WatchedDigester:
    """Names rows by their digests, and where the stage rests by themselves: hashing takes as long as a small stage."""

    def __init__(self, digester: Digester, worth: Worth) -> None:
        self._digester = digester
        self._worth = worth

    def of(self, rows: Sequence[bytes], subjects: Sequence[bytes] | None = None) -> list[bytes]:
        """A name for each row, equal for equal rows only."""
        if not self._worth.rests():
            started = self._worth.clock()
            digests = self._digester.of(rows, subjects)
            self._worth.hashed(self._worth.clock() - started)
            return digests
        if subjects is None:
            return [_undigested(row) for row in rows]
        pairs = zip(subjects, rows, strict=True)
        return [_undigested(len(who).to_bytes(8, "little") + who + row) for who, row in pairs]


def _undigested(row: bytes) -> bytes:
    """A name of `row` that is no digest: it has another length. Its end tells rows of two lengths apart."""
    return row + b"\0" if len(row) != DIGEST_BYTES - 1 else row + b"\1\1"


def _are_digests(names: Sequence[bytes]) -> bool:
    """False if some rows were named while the stage rested; they may meet others in one window."""
    return all(len(name) == DIGEST_BYTES for name in names)


@final
class _WatchedReader:
    """Looks rows up where that pays."""

    def __init__(self, reader: Reader, worth: Worth) -> None:
        self._reader = reader
        self._worth = worth

    def lookup(self, digests: Sequence[bytes]) -> Lookup:
        """What is known of the digests."""
        if self._worth.rests() or not _are_digests(digests):
            nothing = self._reader.lookup([])
            found = np.zeros(len(digests), dtype=bool)
            return replace(nothing, found=found, rested=len(digests))
        started = self._worth.clock()
        lookup = self._reader.lookup(digests)
        self._worth.looked_up(
            self._worth.clock() - started,
            rows=len(digests),
            size_bytes=lookup.size_bytes,
            is_answered=lookup.is_answered,
            hits=int(lookup.found.sum()),
            saved_s=lookup.saved_us / 1e6,
        )
        return lookup


@final
class _WatchedWriter:
    """Inserts rows where that pays."""

    def __init__(self, writer: Writer, reader: Reader, worth: Worth) -> None:
        self._writer = writer
        self._reader = reader
        self._worth = worth
        self._inserts = 0
        self._inserted: Sequence[bytes] = ()
        """Some digests of an insert, to be asked back before a later one."""

    def insert(self, digests: Sequence[bytes], columns: tuple[Rows, ...], *, cost_us: int) -> int:
        """Bytes that were written."""
        if self._worth.rests() or not _are_digests(digests):
            return 0
        self._ask_back()
        started = self._worth.clock()
        written = self._writer.insert(digests, columns, cost_us=cost_us)
        self._worth.inserted(
            self._worth.clock() - started,
            rows=len(digests),
            size_bytes=written,
            row_s=cost_us / 1e6,
        )
        self._inserts += 1
        is_asked = self._inserts.bit_count() == 1 or self._inserts % _LATER == 0
        is_asked |= self._worth.is_forgotten  # it may keep them by now
        if written and is_asked and len(digests) >= _ASKED_BACK:
            self._inserted = digests[:_ASKED_BACK]
        return written

    def _ask_back(self) -> None:
        """Looks up what an insert before has left, where it was chosen for that."""
        digests, self._inserted = self._inserted, ()
        if not digests:
            return
        started = self._worth.clock()
        lookup = self._reader.lookup(digests)
        if lookup.is_answered:
            kept = int(lookup.found.sum())
            seconds = self._worth.clock() - started
            self._worth.asked_back(seconds, rows=len(digests), kept=kept)
