"""Whether the cache of one stage pays, watched while a run goes on.

A look-up that takes longer than computing makes a run slower than one without a cache, and no store is
to blame. So what a stage's cache takes is a debt:

    + what hashing, look-ups and inserts took
    - what the rows that were found would have taken to compute, as their entries say
    - what the rows that were inserted took to compute, less what looking them up will take, times the chance that
      they spare it: `COMES_AGAIN`, and `MADE_ANEW` of that where a stage behind this one has the same rows
    - `SHARE` of the time that passes

A store that forgets what was inserted a moment ago is found out by asking it for some of that now and then; what
it forgets is worth nothing.

Above `LIMIT_S` the stage rests: nothing is hashed, looked up or inserted, until time has paid the debt.
Then the store is asked again, until it has cost as much again. So of a run of T seconds at most `LIMIT_S` +
`SHARE` * T are lost in each worker. Where looking a row up takes longer than computing it, a row costs `_LOSS`
times of what it saves, or the store forgets all, any debt will do, once more than `FEW_ROWS` are asked for. A store that does not answer is the guard's affair
(`wait_budget`): of a call that fails no more is counted here than a healthy store takes.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from datetime import datetime, timezone
from typing import final

from kvspark.cache.guard.call import SLOWEST_BYTES_PER_S
from kvspark.cache.guard.wait_budget import FREE_S
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

_LOSS = 1.5
"""What a row costs, over what it saves, above which nobody waits for the debt: both are measured on few calls."""

FEW_ROWS = 8 * WINDOW_KEYS
"""A worker's first rows, which are asked for whatever a row costs: 40 ms at 10 us a row, for which nobody waits."""

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
        """Of rows that are not looked up yet: what has been hashed is looked up in any case."""
        self._naming_s = 0.0
        """Seconds a row of the last rows that were named; they may be looked up in pieces."""
        self._fetching_s: deque[float] = deque(maxlen=_CALLS)
        """Seconds a row of the last look-ups."""
        self._computing_s: deque[float] = deque(maxlen=_CALLS)
        self._inserting_s: deque[float] = deque(maxlen=_CALLS)
        self._found: deque[tuple[int, int]] = deque(maxlen=_CALLS)
        """Of the last look-ups, the rows that were found and all rows."""
        self._asked = 0
        """Rows that were looked up."""
        self._kept: deque[float] = deque(maxlen=_CALLS // 2)
        """The shares of rows that the store still had, when it was asked back."""

    def rests(self, rows: int = 0) -> bool:
        """True while the stage's store should be left alone; `rows` are what would be looked up now."""
        now = self.clock()
        self._paid(SHARE * (now - self._since))
        self._since = now
        if self._debt_s <= 0:
            if self._is_resting:
                self._forget()
            self._is_resting = False
        elif not self._is_resting and (reason := self._reason(rows)) is not None:
            self._is_resting, self._last = True, reason
            self._rest = reason if self._rest is None else self._rest + reason
        return self._is_resting

    @property
    def knows_lookups(self) -> bool:
        """False if it is not known yet what a look-up takes: at the start, and after a rest."""
        return len(self._fetching_s) >= _CALLS // 2

    @property
    def knows_inserts(self) -> bool:
        """The same of an insert."""
        return len(self._inserting_s) >= _CALLS // 2

    def _forget(self) -> None:
        for seen in (self._fetching_s, self._computing_s, self._inserting_s):
            seen.clear()
        self._found.clear()

    def rest(self) -> Rest | None:
        """Since when and why it rested, since this was called before; None if it did not."""
        told, self._rest = self._rest, self._last if self._is_resting else None
        return told

    def hashed(self, seconds: float, *, rows: int) -> None:
        """Counts what naming `rows` took, with the look-ups that follow."""
        self._hashed_s += seconds
        self._naming_s = seconds / max(1, rows)

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
        self._asked += rows
        self._debt_s += self._hashed_s
        self._hashed_s = 0.0
        self._took(seconds, rows, size_bytes, is_answered=is_answered)
        self._paid(saved_s)
        if rows >= _CALL_ROWS:
            self._fetching_s.append(self._naming_s + seconds / rows)
            self._found.append((hits, rows))
        if hits >= _CALL_ROWS:
            self._computing_s.append(saved_s / hits)

    def inserted(self, seconds: float, *, rows: int, size_bytes: int, row_s: float) -> None:
        """Counts an insert that took `seconds`, of `rows` that took `row_s` each to compute."""
        self._took(seconds, rows, size_bytes, is_answered=size_bytes > 0)
        self._paid(rows * max(self._kept, default=1.0) * self._next_run_saves_s(row_s))
        if rows >= _CALL_ROWS:
            self._computing_s.append(row_s)
            self._inserting_s.append(seconds / rows)

    def asked_back(self, seconds: float, *, rows: int, kept: int) -> None:
        """Counts that of `rows` inserted a moment ago the store still had `kept`, which took `seconds` to see."""
        self._debt_s += seconds
        self._kept.append(kept / rows)

    @property
    def is_forgotten(self) -> bool:
        """True if the store had nothing of what it was asked back lately."""
        return len(self._kept) == self._kept.maxlen and not any(self._kept)

    def _next_run_saves_s(self, row_s: float) -> float:
        """Seconds that a row which took `row_s` is expected to save if it is kept, its look-up subtracted."""
        return self._again * max(0.0, row_s - min(self._fetching_s, default=0.0))

    def _is_loss(self, lookup_s: float, compute_s: float) -> bool:
        """True if a row costs much more than it saves, in this run and the next, by the fastest calls."""
        if not self.knows_inserts:
            return False
        hits, rows = map(sum, zip(*self._found, strict=True))
        hit = hits / rows
        costs_s = lookup_s + (1 - hit) * min(self._inserting_s)
        saves_s = hit * compute_s + (1 - hit) * self._next_run_saves_s(compute_s)
        return costs_s >= _LOSS * saves_s

    def _took(self, seconds: float, rows: int, size_bytes: int, *, is_answered: bool) -> None:
        healthy_s = -(-rows // WINDOW_KEYS) * FREE_S + size_bytes / SLOWEST_BYTES_PER_S
        self._debt_s += seconds if is_answered else min(seconds, healthy_s)

    def _reason(self, rows: int) -> Rest | None:
        """Why it should rest now, with the debt that it has, and not look up `rows`; None if it should not."""
        at = self._utc()
        if self.is_forgotten:
            return Rest(at, {FORGETS: 1})
        is_told = self.knows_lookups and len(self._computing_s) >= _CALLS // 2
        if is_told and self._asked + rows > FEW_ROWS:
            lookup_s, compute_s = min(self._fetching_s), min(self._computing_s)
            if lookup_s >= compute_s:  # no hit rate pays
                return Rest(at, {SLOWER: 1}, 1e6 * lookup_s, 1e6 * compute_s)
            if self._is_loss(lookup_s, compute_s):
                return Rest(at, {OWES: 1})
        return Rest(at, {OWES: 1}) if self._debt_s > LIMIT_S else None

    def _paid(self, seconds: float) -> None:
        self._debt_s = max(0.0, self._debt_s - seconds)
