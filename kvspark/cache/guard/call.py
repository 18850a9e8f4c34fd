"""The time that one call to a store has.

The configured time-out for everything, and what the bytes that are asked for take at a slow 50 MB/s.
What the caller does between two windows or two parts is the caller's time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import final

from kvspark.store.base import Entries, Keys
from kvspark.store.deadline import Deadline, Waited
from kvspark.store.windows import rows_at_once

SLOWEST_BYTES_PER_S = 50e6
"""A server that moves less is not waited for."""


@final
class Call:
    """The time of one call of many windows, on a clock of its own."""

    def __init__(self, timeout_s: float, clock: Callable[[], float]) -> None:
        self._timeout_s = timeout_s
        self._clock = clock
        self._waited = Waited(clock, clock())
        self.windows = 0

    @property
    def deadline(self) -> Deadline:
        """Of all its waiting. It moves with what is asked for, and while the caller is at work."""
        return Deadline(self._timeout_s, self._waited)

    def moves(self, size_bytes: int) -> None:
        """Makes room for another window."""
        self.windows += 1
        self._waited.allowed_s += size_bytes / SLOWEST_BYTES_PER_S

    def rested(self, begun: float) -> None:
        """Since `begun` on the clock it was not the store that was waited for."""
        self._waited.started += self._clock() - begun

    def took_s(self) -> float:
        """Seconds since the call began, without its rests."""
        return self._clock() - self._waited.started

    @property
    def moved_s(self) -> float:
        """Seconds that its bytes may take."""
        return self._waited.allowed_s

    def asked(self, keys: Keys, value_bytes: int) -> Iterator[Keys]:
        """The windows of `keys`, each of which is given its time when it is asked for."""
        step = rows_at_once(value_bytes)
        for at in range(0, len(keys), step):
            window = keys[at : at + step]
            self.moves(len(window) * value_bytes)
            yield window

    def rests(self, source: Iterator[Entries]) -> Entries | None:
        """The next of `source`, whose making is a rest; None behind the last."""
        begun = self._clock()
        try:
            return next(source, None)
        finally:
            self.rested(begun)


@final
class Sent:
    """Windows on their way to a store: what became of them, and what kept the next one from being made.

    A store is not told of that. It finishes what it has, and the caller raises it then.
    """

    def __init__(self, windows: Iterable[Entries], call: Call) -> None:
        self._windows = windows
        self._call = call
        self._sizes: deque[tuple[int, int]] = deque()
        self.fault: Exception | None = None

    def __iter__(self) -> Iterator[Entries]:
        source = iter(self._windows)
        while True:
            try:
                window = self._call.rests(source)
            except Exception as exc:  # noqa: BLE001 - raised by the caller
                self.fault = exc
                return
            if window is None:
                return
            size_bytes = sum([len(value) for _, value in window])
            self._call.moves(size_bytes)
            self._sizes.append((len(window), size_bytes))
            yield window

    def taken_bytes(self, count: int) -> int:
        """Bytes of the values of the oldest window, of which so many were taken."""
        sent, size_bytes = self._sizes.popleft()
        return size_bytes * count // sent
