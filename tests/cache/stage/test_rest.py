"""A stage that rests says since when, and why."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from kvspark.cache.stage.worth import LIMIT_S, SHARE
from kvspark.stats import Rest
from tests.cache.stage.test_worth import BEGAN, COLUMNS, MANY, Store, night


def test_a_stage_says_since_when_it_rests_and_that_looking_up_takes_longer() -> None:
    store = Store()
    store.hash_us, store.lookup_us, store.insert_us, store.compute_us = 0.5, 3.0, 6.0, 2
    cache, worth = store.cache()
    assert worth.rest() is None
    rows = [b"%d" % row for row in range(MANY)]
    store.now_s += 5.0
    for _ in range(4):
        digests = cache.digests(rows)
        cache.lookup(digests)
        cache.insert(digests, COLUMNS, cost_us=store.compute_us)
    rest = worth.rest()
    assert rest is not None
    assert rest == Rest("2026-01-03T01:00:05+00:00", {"slower": 1}, rest.lookup_us, 2.0)
    assert rest.lookup_us == pytest.approx(3.5)
    # The next task of this worker finds it resting, since the same moment.
    assert worth.rests()
    assert worth.rest() == rest


def test_a_stage_says_that_the_store_forgets() -> None:
    store = Store()
    store.hash_us, store.lookup_us, store.insert_us, store.compute_us = 0.5, 3.0, 6.0, 1_000
    cache, worth = store.cache()
    for _ in range(10):
        digests = cache.digests([b"%d" % row for row in range(512)])
        cache.lookup(digests)
        cache.insert(digests, COLUMNS, cost_us=store.compute_us)
    rest = worth.rest()
    assert rest is not None
    assert rest.reasons == {"forgets": 1}


def test_a_stage_that_has_rested_twice_says_since_when_it_did_first() -> None:
    store = Store()
    cache, worth = store.cache()
    night(store, cache, 1_000)
    first_s = store.now_s
    store.now_s += LIMIT_S / SHARE + 1
    night(store, cache, 1_000)
    rest = worth.rest()
    assert rest is not None
    assert rest.reasons == {"owes": 2}
    assert datetime.fromisoformat(rest.since) <= BEGAN + timedelta(seconds=first_s)
    store.now_s += LIMIT_S / SHARE + 1
    assert not worth.rests()
    worth.rest()
    assert worth.rest() is None
