"""What a row costs and saves is known after two small calls, and a stage that loses rests then."""

from __future__ import annotations

import numpy as np

from kvspark.cache.stage.worth import LIMIT_S, Worth
from tests.cache.stage.test_worth import COLUMNS, MANY, Store, keeps


def called(store: Store, calls: int) -> Worth:
    """After `calls` of `MANY` rows each, which the store lacks and keeps."""
    keeps(store)
    cache, worth = store.cache()
    for call in range(calls):
        digests = cache.digests([b"%d" % row for row in range(MANY * call, MANY * (call + 1))])
        if not cache.lookup(digests).found.all():
            cache.insert(digests, COLUMNS, cost_us=store.compute_us)
    return worth


def test_rows_that_cost_more_than_the_next_run_saves_are_computed_after_two_calls() -> None:
    """Of 50 us a look-up leaves 40, and half of them come again: 20, for 35."""
    store = Store()
    store.hash_us, store.lookup_us, store.insert_us, store.compute_us = 0.5, 9.5, 25.0, 50
    assert called(store, 10).rests()
    assert store.written == 2 * 512


def test_what_a_cold_run_leaves_for_the_next_is_no_loss() -> None:
    store = Store()
    store.hash_us, store.lookup_us, store.insert_us, store.compute_us = 0.5, 2.5, 7.0, 50
    assert not called(store, 20).rests()
    assert store.written == 20 * MANY


def test_what_two_small_calls_cost_is_known_before_the_rest_of_a_batch() -> None:
    """A store that takes 100 us a row is told of 1,024 rows, and not of 10,000."""
    store = Store()
    store.hash_us, store.lookup_us, store.insert_us, store.compute_us = 0.5, 2.5, 100.0, 50
    kept = keeps(store)
    cache, worth = store.cache()
    digests = cache.digests([b"%d" % row for row in range(10_000)])
    found = cache.lookup(digests)
    assert (len(found.found), found.rested) == (10_000, 0)
    rows = np.zeros((10_000, 2), "<f4")
    cache.insert(digests, (rows,), cost_us=store.compute_us)
    assert worth.rests()
    assert len(kept) == 1_024
    again = cache.lookup(digests)
    assert (int(again.found.sum()), again.rested) == (0, 10_000)
    store.now_s += 100
    again = cache.lookup(cache.digests([b"%d" % row for row in range(10_000)]))
    assert int(again.found.sum()) == 1_024


def test_what_the_next_look_up_will_take_is_not_credited() -> None:
    """Without it, half of 30 us would be credited for each row that costs 16: nothing would be owed."""
    store = Store()
    store.hash_us, store.lookup_us, store.insert_us, store.compute_us = 0.5, 9.5, 4.5, 30
    calls = int(LIMIT_S / (MANY * 4.5e-6)) + 2
    assert not called(store, calls // 2).rests()
    assert called(store, 2 * calls).rests()
