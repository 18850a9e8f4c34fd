"""Tables of marks in this process's memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from threading import Lock
from typing import final

from typing_extensions import override

from kvspark.cache.store.sightings import Marks, Sightings

Tables = dict[bytes, tuple[bytearray, int]]
"""By key: a table, and when it ends in seconds since 1970."""


def _now_s() -> float:
    return datetime.now(timezone.utc).timestamp()


@final
class MemorySightings(Sightings):
    """The tables in `tables`, changed by one thread at a time."""

    def __init__(
        self, tables: Tables, turn: Callable[[], Lock], *, now_s: Callable[[], float] = _now_s
    ) -> None:
        self._tables = tables
        self._turn = turn
        self._now_s = now_s

    @override
    def mark_many(
        self, tables: Sequence[Marks], *, size_bytes: int, ends_s: int, timeout_s: float
    ) -> list[Sequence[int] | None]:
        with self._turn():
            now_s = self._now_s()
            for key in [key for key, (_, until_s) in self._tables.items() if until_s <= now_s]:
                del self._tables[key]
            return [self._mark(each, size_bytes, ends_s) for each in tables]

    def _mark(self, marks: Marks, size_bytes: int, ends_s: int) -> list[int]:
        table, _ = self._tables.get(marks.key, (bytearray(), 0))
        table.extend(bytes(max(0, size_bytes - len(table))))
        self._tables[marks.key] = table, ends_s
        before = []
        for place, mark in zip(marks.places, marks.marks, strict=True):
            before.append(table[place])
            table[place] = mark
        return before
