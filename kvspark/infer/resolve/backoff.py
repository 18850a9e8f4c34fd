"""How long a worker waits for what others compute: never for longer than it would compute itself."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import final

FIRST_S = 0.01
LAST_S = 0.08
"""Pauses between two looks double from the first to the last of these: a row that is worth a lease takes
50 ms, and a look less than one."""


@final
class Patience:
    """Seconds that may be waited in all, pauses and looks together."""

    def __init__(self, bound_s: float, *, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._next_s = FIRST_S
        self.left_s = bound_s

    def pause_s(self) -> float | None:
        """The pause before the next look, of half to all of its length; None if none is left."""
        if self.left_s <= 0:
            return None
        # Workers that wait for one row do not all look at once.
        pause_s = min(self.left_s, self._next_s * (1 + self._chance()) / 2)
        self._next_s = min(LAST_S, 2 * self._next_s)
        return pause_s

    def waited(self, seconds: float) -> None:
        """Takes off what was waited."""
        self.left_s = max(0.0, self.left_s - seconds)
