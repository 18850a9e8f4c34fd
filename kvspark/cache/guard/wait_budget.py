"""How long a job waits for its cache, all calls together.

A deadline bounds one call, and a breaker opens after some that failed. A store that answers shortly
before each deadline fails at nothing and makes a job many times as slow as without it: 400 look-ups
that took 100 ms each cost 45 s in a run of half a second. So what is waited is a debt:

    + what a call took beyond what one to a healthy store far away takes
    - what its hits would have taken to compute, as their entries say
    - `SHARE` of the time that passes

The debt is never negative: a store that was good for hours is not waited for much longer. Where it
comes to `DEADLINES` deadlines, the store is not asked for a while. So of a run of T seconds at most
`DEADLINES` deadlines and `SHARE` * T are waited in vain.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import final

DEADLINES = 4
SHARE = 0.03
FREE_S = 0.01
"""What a call may take: one round trip in a region is 1 ms, between neighbouring ones 10."""


@final
class WaitBudget:
    """Not safe between threads: its owner holds a lock."""

    def __init__(self, timeout_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit_s = DEADLINES * timeout_s
        self._clock = clock
        self._debt_s = 0.0
        self._since = clock()

    @property
    def is_owed(self) -> bool:
        """True if some waiting was not worth it, so that hits should be told."""
        return self._debt_s > 0

    @property
    def is_spent(self) -> bool:
        """True if the store should not be waited for now."""
        self._pass_time()
        return self._debt_s >= self._limit_s

    def waited(self, seconds: float, *, calls: int, moved_s: float) -> None:
        """Counts `calls` to the store that took `seconds`, of which its bytes may take `moved_s`."""
        self._pass_time()
        self._debt_s += max(0.0, seconds - calls * FREE_S - moved_s)

    def saved(self, seconds: float) -> None:
        """Counts what was not computed."""
        self._debt_s = max(0.0, self._debt_s - seconds)

    def _pass_time(self) -> None:
        now = self._clock()
        self.saved(SHARE * (now - self._since))
        self._since = now
