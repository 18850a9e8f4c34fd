"""The phases of a run: how long each takes."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

log = logging.getLogger(__name__)

BEFORE_A_PLAN = ("open", "read", "preflight")
"""The phases that are over when a run is planned."""


@final
class Phases:
    """Times the phases of one run and logs a line for each."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.current: str | None = None
        """The phase that was entered last."""

    @contextmanager
    def phase(self, name: str) -> Iterator[list[str]]:
        """Times a phase; what is appended to the list is said in its line."""
        told: list[str] = []
        self.current = name
        started = time.perf_counter()
        try:
            yield told
        finally:
            self.seconds[name] = time.perf_counter() - started
        log.info("%s: %s (%.1f s)", name, ", ".join(told) or "done", self.seconds[name])
