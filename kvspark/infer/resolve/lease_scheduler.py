"""Rows that are dear to compute, shared out between the workers that lack them.

    rows of one shape, a call at a time:
        claim them -> look again -> compute those that are ours and still missing -> insert
    at last, those that are others':
        wait a little, claim and look again, and so on; then compute what is still missing

To look again after claiming makes it right without giving leases back: whoever had the lease before has
inserted the row before the lease ended. Others' rows come last, when there is nothing else to do, and
are not waited for longer than it would take to compute them; waiting that came to nothing is a debt
(`kvspark.cache.guard.wait_budget`), and while it is large nobody waits.

What a call takes is measured, for each shape, by its second call: the first one also warms up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import final

import numpy as np

from kvspark.cache.guard.wait_budget import DEADLINES, WaitBudget
from kvspark.cache.stage.lease import RowLeases
from kvspark.cache.stage.stage_cache import Reader
from kvspark.infer.compute.calls import Group
from kvspark.infer.compute.values import Values
from kvspark.infer.resolve.backoff import Patience
from kvspark.infer.rows.bad_rows import Indices
from kvspark.spec import Rows
from kvspark.stats import StageStats

PART_S = 0.05
"""Work that is claimed at a time, at the least: claiming and looking take two round trips."""

IN_VAIN_S = 2.0
"""Waiting that came to nothing, after which nobody waits for a while."""

LIVES = 3
"""A lease lives so many times as long as its rows take to compute, ..."""
LEAST_TTL_S = 1.0
"""... and this at the least, ..."""
UNKNOWN_TTL_S = 10.0
"""... or this where nothing was measured yet."""

Compute = Callable[[Indices], tuple[Values, float]]
"""Computes and inserts the rows at some places: their values, and the seconds of a call."""


@final
class Pace:
    """What calls of a stage take, by shape."""

    def __init__(self) -> None:
        self._call_s: dict[int, float] = {}
        self._calls: dict[int, int] = {}

    def is_known(self, bucket: int) -> bool:
        """True after two calls."""
        return self._calls.get(bucket, 0) > 1

    def call_s(self, bucket: int) -> float:
        """Seconds of a call; 0 before any was made."""
        return self._call_s.get(bucket, 0.0)

    def measured(self, bucket: int, call_s: float) -> None:
        """Takes a call into account; the latest ones count most."""
        known = self.is_known(bucket)
        before = self.call_s(bucket)
        self._call_s[bucket] = 0.7 * before + 0.3 * call_s if known else call_s
        self._calls[bucket] = self._calls.get(bucket, 0) + 1

    def needs_s(self, groups: Sequence[Group]) -> float:
        """Seconds that computing all rows of `groups` takes."""
        return sum(-(-len(rows) // size) * self.call_s(bucket) for bucket, size, rows in groups)


@final
class Sharing:
    """Shares out the rows of one stage, for the life of a worker."""

    def __init__(
        self,
        reader: Reader,
        leases: RowLeases,
        values: Callable[[tuple[Rows, ...]], Values],
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """values: from what entries hold to the stage's results."""
        self.reader = reader
        self.leases = leases
        self.values = values
        self.clock = clock
        self.sleep = sleep
        self.pace = Pace()
        self.in_vain = WaitBudget(IN_VAIN_S / DEADLINES, clock=clock)

    def concerns(self, groups: Sequence[Group]) -> bool:
        """True if some rows of `groups` are dear, or it is not known whether they are."""
        return any(self.is_dear(b, size) or not self.pace.is_known(b) for b, size, _ in groups)

    def is_dear(self, bucket: int, size: int) -> bool:
        """True if rows that are computed in this shape are worth leases."""
        from_s = self.leases.from_s
        return not from_s or (
            self.pace.is_known(bucket) and self.pace.call_s(bucket) >= from_s * size
        )

    def share(self, groups: Sequence[Group], keys: Sequence[bytes], compute: Compute) -> Share:
        """The values of all rows of `groups`, computed here or elsewhere; `keys` has all their digests.

        Raises:
            Exception: what `compute` raises.
        """
        share = Share(self, keys, compute)
        cheap: list[Indices] = []
        others: list[Group] = []
        for bucket, size, rows in groups:
            left = share.learn(bucket, size, rows)
            if self.is_dear(bucket, size):
                others.append((bucket, size, share.in_turn(bucket, size, left)))
            else:
                cheap.append(left)
        if cheap:
            share.compute(np.concatenate(cheap))
        share.wait([group for group in others if len(group[2])])
        return share


@final
class Share:
    """The rows of one call of the rule on their way."""

    def __init__(self, sharing: Sharing, keys: Sequence[bytes], compute: Compute) -> None:
        self._sharing = sharing
        self._keys = keys
        self._compute = compute
        self.parts: list[tuple[Indices, Values]] = []
        """What is known of the rows at some places."""
        self.stats = StageStats()

    def compute(self, rows: Indices, bucket: int | None = None) -> None:
        """Computes and inserts `rows`; measures the call where all are of one shape."""
        if not len(rows):
            return
        values, call_s = self._compute(rows)
        self.parts.append((rows, values))
        if bucket is not None:
            self._sharing.pace.measured(bucket, call_s)

    def learn(self, bucket: int, size: int, rows: Indices) -> Indices:
        """Computes rows until it is known what a call takes; the others are left.

        Nothing where all rows get a lease anyhow. As many calls as without leases.
        """
        while len(rows) and self._sharing.leases.from_s and not self._sharing.pace.is_known(bucket):
            self.compute(rows[:size], bucket)
            rows = rows[size:]
        return rows

    def in_turn(self, bucket: int, size: int, rows: Indices) -> Indices:
        """Computes those of `rows` that nobody else does, in full calls; the others' are left."""
        others = [rows[:0]]
        while len(rows):
            call_s = self._sharing.pace.call_s(bucket)
            step = size * max(1, int(PART_S / call_s)) if call_s else size
            ttl_s = _ttl_s(step // size * call_s)
            ours = rows[:0]
            while len(rows) and len(ours) < step:
                some, rows = rows[: step - len(ours)], rows[step - len(ours) :]
                more, theirs = self._attempt(some, ttl_s)
                ours = np.concatenate([ours, more])
                others.append(theirs)
            self.compute(ours, bucket)
        return np.concatenate(others)

    def wait(self, others: list[Group]) -> None:
        """Looks for rows that others compute, for as long as that may pay, and computes the rest."""
        sharing = self._sharing
        count = sum(len(rows) for _, _, rows in others)
        needs_s = sharing.pace.needs_s(others)
        patience = Patience(0.0 if sharing.in_vain.is_spent else needs_s)
        left = np.concatenate([rows for _, _, rows in others]) if others else np.arange(0)
        slept_s, waited_s, found = 0.0, 0.0, 0
        while len(left):
            pause_s = patience.pause_s()
            if pause_s is None:
                break
            started = sharing.clock()
            sharing.sleep(pause_s)
            slept_s += sharing.clock() - started
            ours, theirs = self._attempt(left, _ttl_s(needs_s))
            took_s = sharing.clock() - started
            patience.waited(max(took_s, pause_s))
            waited_s += took_s
            found += len(left) - len(ours) - len(theirs)
            self.compute(ours)
            left = theirs
        self.compute(left)
        if count:
            self.stats += StageStats(seconds_waited=slept_s)
            sharing.in_vain.waited(waited_s, calls=0, moved_s=0.0)
            sharing.in_vain.saved(needs_s * found / count)

    def _attempt(self, rows: Indices, ttl_s: float) -> tuple[Indices, Indices]:
        """Takes what is known of `rows`; of the others, those that are ours and those of somebody else."""
        digests = [self._keys[row] for row in rows]
        started = self._sharing.clock()
        ours = self._sharing.leases.claim(digests, ttl_s=ttl_s)
        lookup = self._sharing.reader.lookup(digests)
        if lookup.found.any():
            self.parts.append((rows[lookup.found], self._sharing.values(lookup.columns)))
        self.stats += StageStats(
            leased=int(lookup.found.sum()),
            bytes_read=lookup.size_bytes,
            seconds_lookup=self._sharing.clock() - started,
        )
        return rows[ours & ~lookup.found], rows[~ours & ~lookup.found]


def _ttl_s(seconds: float) -> float:
    return max(LEAST_TTL_S, LIVES * seconds) if seconds else UNKNOWN_TTL_S
