"""Rows that were asked for ahead, by the thread that works beside the computation."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import final

from kvspark.cache.guard.guard import Guard
from kvspark.cache.stage.stage_cache import Lookup


@final
@dataclass(eq=False)
class Ahead:
    """Distinct rows that were asked for ahead."""

    guard: Guard
    """Knows how long the thread is waited for."""
    digests: Sequence[bytes]
    found: Future[int | Lookup]
    """By the thread."""
    inserted: set[bytes] = field(default_factory=set)
    """Since then, by this process."""
    pid: int = field(default_factory=os.getpid)

    def lookup(self) -> Lookup | None:
        """What is known of all rows; None if nobody has looked, or rows that were missing are there by now."""
        if self.pid != os.getpid() or self.found.cancel():
            return None
        try:
            found = self.found.result(self.guard.patience_s(0))
        except Exception:  # noqa: BLE001 - who wants to know looks again, and raises it
            return None
        if not isinstance(found, Lookup):
            return None
        hits = zip(self.digests, found.found.tolist(), strict=True)
        if self.inserted and any(row in self.inserted for row, is_hit in hits if not is_hit):
            return None
        return found
