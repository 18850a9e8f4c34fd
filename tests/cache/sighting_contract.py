"""What every store with sightings must do: subclassed like `StoreContract`."""

from __future__ import annotations

import time

from kvspark.cache.store.base import Store
from kvspark.cache.store.sightings import Marks

SIZE_BYTES = 1_000
TIMEOUT_S = 5.0


class SightingContract:
    def test_a_mark_is_told_to_who_writes_the_next_one(self, store: Store, key):
        kept = store.sightings()
        assert kept is not None
        names = [key(b"{%02x}table" % tag) for tag in range(64)]
        first = [Marks(name, (0, 7, SIZE_BYTES - 2, 7), (1, 2, 255, 3)) for name in names]
        second = [Marks(name, (7, 8, SIZE_BYTES - 2), (9, 9, 9)) for name in names]
        until = {"size_bytes": SIZE_BYTES, "ends_s": int(time.time()) + 100}
        assert kept.mark_many(first, **until, timeout_s=TIMEOUT_S) == [[0, 0, 0, 2]] * 64
        assert kept.mark_many(second, **until, timeout_s=TIMEOUT_S) == [[3, 0, 255]] * 64
        assert kept.mark_many([], **until, timeout_s=TIMEOUT_S) == []

    def test_a_table_ends_by_itself(self, store: Store, key):
        kept = store.sightings()
        assert kept is not None
        tables = [Marks(key(b"{00}brief"), (5,), (6,))]
        for _ in range(2):
            ended = int(time.time()) - 1
            marks = kept.mark_many(tables, size_bytes=SIZE_BYTES, ends_s=ended, timeout_s=TIMEOUT_S)
            assert marks == [[0]]
