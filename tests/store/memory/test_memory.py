from __future__ import annotations

import pytest

from kvspark.store.memory.memory import MemoryStore, memory_store
from tests.store.calls import get_many, set_many
from tests.store.store_contract import StoreContract


@pytest.fixture
def store():
    return MemoryStore()


class TestMemoryStore(StoreContract):
    pass


def test_what_was_used_longest_ago_goes_first():
    store = MemoryStore(max_bytes=30)
    set_many(store, [(b"a", b"x" * 9), (b"b", b"x" * 9), (b"c", b"x" * 9)], ttl_s=None)
    get_many(store, [b"a"])
    set_many(store, [(b"d", b"x" * 9)], ttl_s=None)
    assert [value is None for value in get_many(store, [b"a", b"b", b"c", b"d"])] == [
        False,
        True,
        False,
        False,
    ]


def test_the_bound_holds_in_bytes_whatever_is_set():
    store = MemoryStore(max_bytes=1_000)
    for row in range(500):
        set_many(store, [(b"%d" % (row % 90), b"x" * (row % 300))], ttl_s=None)
        assert store.size_bytes <= 1_000


def test_a_value_above_the_bound_is_not_taken_and_replaces_nothing_but_its_key():
    store = MemoryStore(max_bytes=100)
    assert set_many(store, [(b"a", b"1"), (b"b", b"2")], ttl_s=None) == 2
    assert set_many(store, [(b"a", b"x" * 100)], ttl_s=None) == 0
    assert get_many(store, [b"a", b"b"]) == [None, b"2"]


def test_expired_entries_are_forgotten_when_they_are_asked_for():
    now = 0.0
    store = MemoryStore(clock=lambda: now)
    set_many(store, [(b"a", b"1")], ttl_s=10)
    now = 9.9
    assert get_many(store, [b"a"]) == [b"1"]
    now = 10.0
    assert get_many(store, [b"a"]) == [None]
    assert store.size_bytes == 0


def test_a_name_is_one_store_in_a_process_and_no_name_is_always_a_new_one():
    assert memory_store("x") is memory_store("x")
    assert memory_store("x") is not memory_store("y")
    assert memory_store("") is not memory_store("")
