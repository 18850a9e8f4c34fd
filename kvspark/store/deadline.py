"""The moment at which all waiting of a call ends: made once, where a call begins, and handed down."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from kvspark.errors import StoreUnavailableError


@final
@dataclass(slots=True)
class Waited:
    """A clock for a deadline: the seconds since `started` on `clock`, but for those that are `allowed_s`."""

    clock: Callable[[], float]
    started: float
    """Moved on by whoever is at work itself, and waits for nobody."""
    allowed_s: float = 0.0

    def __call__(self) -> float:
        return self.clock() - self.started - self.allowed_s


@final
@dataclass(frozen=True, slots=True)
class Deadline:
    """`ends` seconds on `clock`, which stands still for a caller who does not count all time as waiting."""

    ends: float
    clock: Callable[[], float] = time.monotonic

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """So many seconds from now."""
        return cls(time.monotonic() + seconds)

    def left_s(self) -> float:
        """Seconds until then; 0 afterwards."""
        return max(0.0, self.ends - self.clock())

    @property
    def expired(self) -> bool:
        """True if no time is left."""
        return self.clock() >= self.ends

    def half(self) -> Deadline:
        """When half of the time that is left is over: what one that hangs may take from the others."""
        now = self.clock()
        return Deadline(now + max(0.0, self.ends - now) / 2, self.clock)

    def check(self, place: object) -> None:
        """Returns if there is time left.

        Raises:
            StoreUnavailableError: there is none, for a call to `place`.
        """
        if self.expired:
            said = f"the time of a call to {place} has run out"
            raise StoreUnavailableError(said) from TimeoutError()


NEVER = Deadline(math.inf)
"""For who waits for another thread of this process, which has a deadline of its own."""

NOW = Deadline(-math.inf)
"""For who does not wait."""
