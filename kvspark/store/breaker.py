"""Stops asking a store that does not answer, so that it costs a job next to nothing.

    closed     every call may go
    open       none may, until a moment
    half-open  at that moment one call may try; it closes the breaker or opens it again

A store that refuses us opens it for good: a wrong password does not become right by itself.
With a deadline D a call, trouble of any kind costs at most `FAILURES` * D at once and one more D
every `PAUSE_S`: at 0.25 s less than 1 % of a run.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from typing import final

FAILURES = 3
PAUSE_S = 30.0
JITTER = 0.2
"""Workers that lost their store together do not come back together."""


@final
class Breaker:
    """Not safe between threads: its owner holds a lock."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._clock = clock
        self._chance = chance
        self._failures = 0
        self._open_until = 0.0
        self.reason = ""
        """Why it is open; empty while it is closed."""

    def allows(self) -> bool:
        """True if a call may go; its outcome must then be told."""
        if not self.reason:
            return True
        now = self._clock()
        if now < self._open_until:
            return False
        # This call is the one that tries; the others wait for it as if it had failed.
        self._open_until = now + self._pause_s()
        return True

    def succeeded(self) -> None:
        """A call went well."""
        if self._open_until < math.inf:
            self._failures = 0
            self.reason = ""

    def failed(self, reason: str) -> bool:
        """A call did not go well; True if that opened a closed breaker."""
        self._failures += 1
        if self._failures < FAILURES:
            return False
        return self.trip(reason)

    def trip(self, reason: str, *, for_good: bool = False) -> bool:
        """Opens it at once; True if it was closed."""
        was_closed = not self.reason
        if self._open_until < math.inf:
            self._failures = FAILURES
            self._open_until = math.inf if for_good else self._clock() + self._pause_s()
            self.reason = reason
        return was_closed

    def _pause_s(self) -> float:
        return PAUSE_S * (1 + JITTER * (2 * self._chance() - 1))
