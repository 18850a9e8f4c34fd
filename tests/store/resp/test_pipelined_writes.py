"""Writes of many windows: what was taken is counted, what was not costs no more than before."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import closing

import numpy as np
import pytest

from kvspark.cache.cache import Cache
from kvspark.cache.guard.guard import Guard
from kvspark.errors import StoreFullError, StoreUnavailableError, UsageError
from kvspark.spec import Rows, TensorSpec
from kvspark.store.base import Counts, Entries, Store
from kvspark.store.deadline import Deadline
from kvspark.store.redis_error import is_timeout
from kvspark.store.resp.pipelined_write import AHEAD
from tests.redis_server import PATIENT_MS
from tests.store.calls import get_many, ping, taken, written
from tests.store.redis.redis_stores import over_tcp

pytestmark = pytest.mark.redis

ENTRIES = [(b"%d" % row, b"%06d" % row) for row in range(500)]
PATIENT_S = PATIENT_MS / 1_000
SPECS = (TensorSpec("t", "float32", (16,)),)


def windows() -> Iterator[list[tuple[bytes, bytes]]]:
    return (ENTRIES[at : at + 50] for at in range(0, 500, 50))


def write(store: Store, these: Iterable[Entries]) -> Counts:
    return store.write(these, Deadline.after(PATIENT_S), ttl_s=60)


def test_a_closed_connection_is_opened_once_more_for_a_write_of_many_windows(own_server, connect):
    store = connect(own_server)
    ping(store)
    own_server.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert written(store, windows(), ttl_s=60) == [50] * 10
    assert get_many(store, [key for key, _ in ENTRIES]) == [value for _, value in ENTRIES]
    assert own_server.count("hello") == 2


def test_windows_are_made_while_others_are_on_their_way(own_server, connect):
    counts: list[int] = []
    answered: list[int] = []

    def noted() -> Iterator[list[tuple[bytes, bytes]]]:
        for window in windows():
            answered.append(len(counts))
            yield window

    taken(write(connect(own_server), noted()), counts)
    # The first two before any answer; then as many as may be ahead, and one that is ready.
    assert answered[: AHEAD + 2] == [0, 0, *[1] * AHEAD]
    assert len(counts) == 10


def test_a_server_that_takes_no_writes_is_sent_one_window(own_server, connect):
    store = connect(own_server)
    own_server.ask("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(StoreFullError), closing(write(store, windows())) as counts:
        next(counts)
    assert b"errorstat_OOM:count=50" in own_server.ask("INFO", "errorstats")
    # And its connection is as good as before.
    assert get_many(store, [b"1"]) == [None]
    assert own_server.count("hello") == 1


def test_a_server_that_is_full_in_the_middle_has_what_came_before(own_server, connect):
    store = connect(own_server)
    counts: list[int] = []

    def fill_after_four() -> None:
        if len(counts) == 4:
            own_server.ask("CONFIG", "SET", "maxmemory", "1")

    with pytest.raises(StoreFullError):
        taken(write(store, windows()), counts, fill_after_four)
    # What had been sent by then may have been taken before.
    assert 4 <= len(counts) < 4 + AHEAD
    known = ENTRIES[: 50 * len(counts)]
    assert get_many(store, [key for key, _ in known]) == [value for _, value in known]


def test_a_write_whose_time_is_up_in_the_middle_is_broken_off(own_server, connect):
    store = connect(own_server)
    counts: list[int] = []
    deadline = Deadline(4, lambda: len(counts))
    with pytest.raises(StoreUnavailableError) as caught:
        taken(store.write(windows(), deadline, ttl_s=60), counts)
    assert is_timeout(caught.value)
    assert 0 < len(counts) < 10
    assert get_many(store, [b"499"]) == [None]


def test_windows_that_were_taken_before_a_server_died_are_counted(own_server):
    guard = Guard(over_tcp(own_server), timeout_s=PATIENT_S)

    def dying() -> Iterator[list[tuple[bytes, bytes]]]:
        for number, window in enumerate(windows()):
            if number == AHEAD + 2:
                own_server.signal(signal.SIGKILL)
            yield window

    taken_bytes = sum(guard.write(dying(), ttl_s=60))
    # At least one of those before was answered; of the one that was not made yet nothing was sent.
    assert 50 * 6 <= taken_bytes <= (AHEAD + 2) * 50 * 6
    assert guard.drain().errors == {"unavailable": 1}


def test_what_keeps_a_window_from_being_made_is_raised_and_no_trouble_with_the_store(own_server):
    guard = Guard(over_tcp(own_server), timeout_s=PATIENT_S)

    def breaking() -> Iterator[list[tuple[bytes, bytes]]]:
        for number, window in enumerate(windows()):
            if number == 3:
                raise LookupError
            yield window

    counts: list[int] = []
    with pytest.raises(LookupError):
        taken(guard.write(breaking(), ttl_s=60), counts)
    # Those before are in the store, and its connection is as good as before.
    assert counts == [300] * 3
    assert own_server.count("set") == 150
    assert sum(guard.write(windows(), ttl_s=60)) == 3_000
    assert guard.drain().errors == {}
    assert own_server.count("hello") == 1


def test_what_it_takes_to_make_a_window_is_no_waiting(own_server):
    now = [0.0]
    guard = Guard(over_tcp(own_server), timeout_s=PATIENT_S, clock=lambda: now[0])

    def slow() -> Iterator[list[tuple[bytes, bytes]]]:
        for window in windows():
            now[0] += PATIENT_S
            yield window

    assert sum(guard.write(slow(), ttl_s=60)) == 500 * 6
    assert guard.drain().errors == {}
    assert not guard.is_owed


def test_nothing_is_sealed_for_a_store_that_takes_no_writes(own_server):
    own_server.ask("CONFIG", "SET", "maxmemory", "1")
    guard = Guard(over_tcp(own_server), timeout_s=PATIENT_S)
    made: list[int] = []

    def counted() -> Iterator[list[tuple[bytes, bytes]]]:
        for window in windows():
            made.append(len(window))
            yield window

    assert sum(guard.write(counted(), ttl_s=60)) == 0
    # The second was made while the server had the first.
    assert made == [50, 50]
    assert sum(guard.write(counted(), ttl_s=60)) == 0
    assert made == [50, 50]
    assert guard.drain().errors == {"full": 1, "skipped": 1}


@pytest.mark.parametrize("varies", [False, True], ids=["fixed size", "varying size"])
def test_rows_of_many_windows_come_back_with_their_bits(own_server, varies):
    specs = (TensorSpec("t", "uint8", (None if varies else 700,)),)
    sizes = np.random.default_rng(3).integers(0, 9_000, 2_000) if varies else [700] * 2_000
    column: Rows = [np.frombuffer(os.urandom(int(size)), np.uint8) for size in sizes]
    cache = Cache.connect(own_server.url, namespace="n", timeout_ms=PATIENT_MS)
    space = cache.keyspace(b"stage", specs)
    digests = space.digests([b"%d" % row for row in range(2_000)])
    assert space.insert(digests, (column,), cost_us=1) > sum(map(int, sizes))
    lookup = space.lookup(digests)
    assert lookup.found.all()
    assert [row.tobytes() for row in lookup.columns[0]] == [row.tobytes() for row in column]
    assert own_server.count("set") == 2_000


def test_a_column_of_another_length_is_a_mistake_of_the_caller(own_server):
    cache = Cache.connect(own_server.url, namespace="n", timeout_ms=PATIENT_MS)
    space = cache.keyspace(b"stage", SPECS)
    digests = space.digests([b"%d" % row for row in range(1_000)])
    for count in (999, 1_001):
        with pytest.raises(UsageError, match=f"{count} rows for 1000 digests"):
            space.insert(digests, (np.zeros((count, 16), "<f4"),), cost_us=1)
    assert own_server.count("set") == 0
    assert cache.drain().errors == {}
