"""A stage whose cache costs more than it saves is left alone, and the loss is bounded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from hashlib import blake2b
from typing import final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvspark.cache.stage.stage_cache import Lookup, StageCache
from kvspark.cache.stage.watched import watched
from kvspark.cache.stage.worth import FEW_ROWS, LIMIT_S, SHARE, Worth
from kvspark.spec import Rows

BEGAN = datetime(2026, 1, 3, 1, tzinfo=timezone.utc)
ROWS = 8
MANY = 5_000
"""Rows of a call for which more is at stake than nobody waits for."""
NAMES = [b"%d" % row for row in range(ROWS)]
DIGESTS = [blake2b(name, digest_size=32).digest() for name in NAMES]
COLUMNS = (np.zeros((ROWS, 2), "<f4"),)


@final
class Store:
    """Entries on a clock that stands still but for what is done: all are there, or none."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.hash_us = 64.0
        self.lookup_us = 320.0
        self.insert_us = 448.0
        self.compute_us = 64
        self.has_rows = False
        self.hangs = False
        self.asked = 0
        self.written = 0

    def of(self, rows: Sequence[bytes], subjects: Sequence[bytes] | None = None) -> list[bytes]:
        del subjects
        self.now_s += len(rows) * self.hash_us / 1e6
        return [blake2b(row, digest_size=32).digest() for row in rows]

    def lookup(self, digests: Sequence[bytes]) -> Lookup:
        self.asked += len(digests)
        self.now_s += len(digests) * self.lookup_us / 1e6
        hits = len(digests) if self.has_rows else 0
        found = np.full(len(digests), self.has_rows)
        found_us, is_answered = hits * self.compute_us, not self.hangs
        return Lookup(found, (COLUMNS[0][:hits],), 0, is_answered, saved_us=found_us)

    def insert(self, digests: Sequence[bytes], columns: tuple[Rows, ...], *, cost_us: int) -> int:
        del columns
        assert cost_us == self.compute_us
        self.written += len(digests)
        self.now_s += len(digests) * self.insert_us / 1e6
        return len(digests)

    def utc(self) -> str:
        return (BEGAN + timedelta(seconds=self.now_s)).isoformat(timespec="seconds")

    def cache(self) -> tuple[StageCache, Worth]:
        worth = Worth(clock=lambda: self.now_s, utc=self.utc)
        return watched(StageCache(self, self, self), worth), worth


def night(store: Store, cache: StageCache, windows: int) -> tuple[float, float]:
    """Seconds of `windows` with the cache, and what they would take without it."""
    started_s, rested = store.now_s, 0
    for _ in range(windows):
        digests = cache.digests(NAMES)
        found = cache.lookup(digests)
        rested += found.rested
        missing = int((~found.found).sum())
        store.now_s += missing * store.compute_us / 1e6
        if missing:
            cache.insert(digests, COLUMNS, cost_us=store.compute_us)
    return store.now_s - started_s, windows * ROWS * store.compute_us / 1e6


@pytest.mark.parametrize("has_rows", [False, True], ids=["cold", "warm"])
def test_rows_that_are_cheaper_to_compute_are_soon_computed(has_rows: bool) -> None:
    store = Store()
    store.has_rows = has_rows
    cache, worth = store.cache()
    took_s, alone_s = night(store, cache, 5_000)
    assert worth.rests()
    assert store.asked < 5_000 * ROWS / 5
    a_window_s = ROWS * (store.hash_us + store.lookup_us + store.insert_us) / 1e6
    for_next_s = store.written * store.compute_us / 2e6
    # No debt is paid while the stage rests.
    assert LIMIT_S < took_s - alone_s - for_next_s < LIMIT_S + SHARE * took_s + a_window_s


@pytest.mark.parametrize("has_rows", [False, True], ids=["cold", "warm"])
def test_rows_that_are_dear_to_compute_are_never_left_alone(has_rows: bool) -> None:
    store = Store()
    store.compute_us, store.has_rows = 32_000, has_rows
    cache, _ = store.cache()
    night(store, cache, 5_000)
    assert store.asked == 5_000 * ROWS
    assert store.written == (0 if has_rows else store.asked)


@pytest.mark.parametrize("has_rows", [False, True], ids=["cold", "warm"])
def test_rows_that_no_hit_rate_makes_cheaper_are_computed_after_two_calls(has_rows: bool) -> None:
    store = Store()
    store.hash_us, store.lookup_us, store.insert_us = 0.5, 3.0, 6.0
    store.compute_us, store.has_rows = 2, has_rows
    cache, worth = store.cache()
    rows = [b"%d" % row for row in range(MANY)]
    for _ in range(10):
        digests = cache.digests(rows)
        if not cache.lookup(digests).found.all():
            cache.insert(digests, COLUMNS, cost_us=store.compute_us)
    assert worth.rests()
    # Of rows that are there the look-up tells what they take, of others their insert.
    assert store.asked == (2 * 512 if has_rows else MANY + 32)
    assert store.written == (0 if has_rows else 2 * 512)


@pytest.mark.parametrize("has_rows", [False, True], ids=["cold", "warm"])
def test_the_first_rows_of_a_worker_are_asked_for_whatever_they_cost(has_rows: bool) -> None:
    """A table of 2,000 cheap rows has all of them in the store after the first night."""
    store = Store()
    store.hash_us, store.lookup_us, store.insert_us = 0.5, 3.0, 6.0
    store.compute_us, store.has_rows = 2, has_rows
    if not has_rows:
        keeps(store)
    cache, worth = store.cache()
    for call in range(FEW_ROWS // 512):
        digests = cache.digests([b"%d" % row for row in range(512 * call, 512 * (call + 1))])
        found = cache.lookup(digests)
        assert found.rested == 0
        if not has_rows:
            cache.insert(digests, COLUMNS, cost_us=store.compute_us)
    assert store.written == (0 if has_rows else FEW_ROWS)
    assert worth.rests(1)


def test_a_first_call_that_connects_does_not_make_a_stage_rest() -> None:
    store = Store()
    store.hash_us, store.compute_us, store.has_rows = 0.5, 20, True
    cache, worth = store.cache()
    rows = [b"%d" % row for row in range(512)]
    for store.lookup_us in (50.0, 3.0, 3.0, 3.0, 50.0, 3.0):
        cache.lookup(cache.digests(rows))
        assert not worth.rests()
    assert store.asked == 6 * 512


def test_a_store_that_forgets_what_is_inserted_is_left_alone() -> None:
    """Rows of a millisecond: half of their cost would be credited for each, and none ever comes back."""
    store = Store()
    store.hash_us, store.lookup_us, store.insert_us, store.compute_us = 0.5, 3.0, 6.0, 1_000
    cache, worth = store.cache()
    for window in range(50):
        digests = cache.digests([b"%d" % row for row in range(512 * window, 512 * (window + 1))])
        cache.lookup(digests)
        cache.insert(digests, COLUMNS, cost_us=store.compute_us)
    assert worth.rests()
    assert 0 < store.written <= 5 * 512


def keeps(store: Store) -> set[bytes]:
    """Makes `store` find what was inserted: these digests."""
    kept: set[bytes] = set()
    insert, lookup = store.insert, store.lookup

    def keeping(digests: Sequence[bytes], columns: tuple[Rows, ...], *, cost_us: int) -> int:
        kept.update(digests)
        insert(digests, columns, cost_us=cost_us)
        return 1

    def remembered(digests: Sequence[bytes]) -> Lookup:
        found = lookup(digests)
        return replace(found, found=np.array([each in kept for each in digests]))

    store.insert, store.lookup = keeping, remembered  # type: ignore[method-assign]
    return kept


def test_a_store_that_keeps_what_is_inserted_is_asked_back_now_and_then() -> None:
    store = Store()
    store.hash_us, store.lookup_us, store.insert_us, store.compute_us = 0.5, 3.0, 6.0, 1_000
    kept = keeps(store)
    cache, worth = store.cache()
    for window in range(50):
        digests = cache.digests([b"%d" % row for row in range(512 * window, 512 * (window + 1))])
        cache.lookup(digests)
        cache.insert(digests, COLUMNS, cost_us=store.compute_us)
    assert not worth.rests()
    assert len(kept) == 50 * 512
    # Behind inserts 1 to 4, 8, 16, 32 and 48.
    assert store.asked == 50 * 512 + 8 * 32


def test_a_store_that_keeps_rows_again_is_asked_again() -> None:
    store = Store()
    store.hash_us, store.lookup_us, store.insert_us, store.compute_us = 0.5, 3.0, 6.0, 1_000
    cache, worth = store.cache()

    def windows(count: int) -> None:
        for _ in range(count):
            digests = cache.digests([b"%d" % row for row in range(512)])
            if not cache.lookup(digests).found.all():
                cache.insert(digests, COLUMNS, cost_us=store.compute_us)
            store.now_s += 512 * store.compute_us / 1e6

    windows(20)
    assert worth.is_forgotten
    store.has_rows = True  # what was inserted before it rested is there now
    store.now_s += 100
    # The next insert asks back for the one before the rest.
    cache.insert(cache.digests([b"%d" % row for row in range(512)]), COLUMNS, cost_us=1_000)
    assert not worth.is_forgotten


def test_a_stage_that_rests_is_tried_again_and_goes_on_where_it_pays_by_then() -> None:
    store = Store()
    cache, worth = store.cache()
    night(store, cache, 1_000)
    assert worth.rests()
    store.compute_us, store.has_rows = 32_000, True  # the rows of the next table are others
    asked = store.asked
    store.now_s += LIMIT_S / SHARE + 1
    night(store, cache, 1_000)
    assert not worth.rests()
    assert store.asked == asked + 1_000 * ROWS


def test_rows_that_are_not_looked_up_are_misses_and_told() -> None:
    store = Store()
    store.has_rows = True
    cache, _ = store.cache()
    night(store, cache, 5_000)
    asked = store.asked
    found = cache.lookup(DIGESTS)
    assert (found.rested, int(found.found.sum()), len(found.columns[0])) == (ROWS, 0, 0)
    assert store.asked == asked
    assert cache.insert(DIGESTS, COLUMNS, cost_us=1) == 0


def test_rows_that_were_named_while_the_stage_rested_never_reach_the_store() -> None:
    store = Store()
    cache, worth = store.cache()
    night(store, cache, 1_000)
    assert worth.rests()
    named = cache.digests(NAMES)
    store.now_s += LIMIT_S / SHARE + 1
    assert not worth.rests()
    asked, written = store.asked, store.written
    assert cache.lookup([*named[:1], *DIGESTS[1:]]).rested == ROWS
    assert cache.insert([*named[:1], *DIGESTS[1:]], COLUMNS, cost_us=1) == 0
    assert (store.asked, store.written) == (asked, written)


@given(st.lists(st.binary(min_size=28, max_size=36), unique=True), st.booleans())
def test_names_of_rows_that_rest_are_distinct_and_no_digests(
    rows: list[bytes], has_subjects: bool
) -> None:
    store = Store()
    cache, worth = store.cache()
    worth.looked_up(3 * LIMIT_S, rows=512_000, size_bytes=0)
    names = cache.digests(rows, [b"s"] * len(rows) if has_subjects else None)
    assert len({*names}) == len(rows)
    assert all(len(name) != 32 for name in names)


def test_two_subjects_never_share_a_name_of_a_row() -> None:
    store = Store()
    cache, worth = store.cache()
    worth.looked_up(3 * LIMIT_S, rows=512_000, size_bytes=0)
    assert len({*cache.digests([b"ab", b"b"], [b"c", b"ca"])}) == 2


def test_a_store_that_hangs_is_not_held_against_the_stage() -> None:
    """The guard leaves it alone, for half a minute; a stage would rest for minutes."""
    store = Store()
    cache, worth = store.cache()
    store.lookup_us, store.hangs = 0.25e6, True
    for _ in range(20):
        cache.lookup(DIGESTS[:1])
    assert not worth.rests()


def test_a_store_that_answers_late_is_held_against_the_stage() -> None:
    store = Store()
    cache, worth = store.cache()
    store.lookup_us = 0.05e6
    for _ in range(20):
        cache.lookup(DIGESTS[:1])
    assert worth.rests()


def test_without_a_debt_nothing_is_wrapped() -> None:
    store = Store()
    plain = StageCache(store, store, store)
    assert watched(plain, None) is plain
    assert replace(plain) == plain


@given(
    st.lists(
        st.tuples(st.integers(0, 2_560), st.booleans(), st.floats(0, 100)), min_size=1, max_size=30
    )
)
def test_no_run_loses_more_than_the_limit_and_its_share(
    parts: list[tuple[int, bool, float]],
) -> None:
    """Whatever rows cost, and whether they are found: what was inserted for the next run counts as half of it."""
    store = Store()
    cache, _ = store.cache()
    lost_s, worst_s = 0.0, 0.0
    for compute_us, has_rows, pause_s in parts:
        store.compute_us, store.has_rows = compute_us, has_rows
        store.now_s += pause_s
        before = store.written
        took_s, alone_s = night(store, cache, 200)
        lost_s += took_s - alone_s - (store.written - before) * compute_us / 2e6
        worst_s = max(worst_s, lost_s)
    a_window_s = ROWS * (store.hash_us + store.lookup_us + store.insert_us) / 1e6
    assert worst_s <= LIMIT_S + SHARE * store.now_s + 2 * a_window_s
