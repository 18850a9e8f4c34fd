"""Measures a block of a test."""

from __future__ import annotations

import time


class Clock:
    """`with Clock() as clock: ...`, then `clock.seconds`."""

    def __enter__(self):
        self._begun = time.monotonic()
        return self

    def __exit__(self, *_):
        self.seconds = time.monotonic() - self._begun
