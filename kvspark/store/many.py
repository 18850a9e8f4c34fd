"""Calls of one list: what most callers want of a store that reads and writes windows."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing

from kvspark.store.base import Entries, Keys, Store
from kvspark.store.deadline import Deadline
from kvspark.store.value_table import Part, Scattered, listed

WINDOW = 512
"""Keys that a server is asked for at once."""


def get_many(store: Store, keys: Keys, deadline: Deadline) -> list[bytes | None]:
    """The values of `keys` in their order, None where a key is missing.

    Raises:
        StoreError: nothing of this call is known.
    """
    windows = (keys[at : at + WINDOW] for at in range(0, len(keys), WINDOW))
    with closing(store.read(windows, deadline)) as parts:
        return values_of(parts, len(keys))


def set_many(store: Store, entries: Entries, deadline: Deadline, *, ttl_s: float | None) -> int:
    """How many of the (key, value) `entries` were taken.

    Raises:
        StoreError: at least one entry was not taken; others may have been.
    """
    windows = (entries[at : at + WINDOW] for at in range(0, len(entries), WINDOW))
    with closing(store.write(windows, deadline, ttl_s=ttl_s)) as counts:
        return sum(counts)


def values_of(parts: Iterable[Part], count: int) -> list[bytes | None]:
    """What `parts` have of `count` keys: a value each, in the order of the keys."""
    values: dict[int, bytes | None] = {}
    place = 0
    for part in parts:
        if isinstance(part, Scattered):
            values |= zip(part.places.tolist(), listed(part.part), strict=True)
            continue
        for value in listed(part):
            while place in values:
                place += 1
            values[place] = value
    return [values[place] for place in range(count)]
