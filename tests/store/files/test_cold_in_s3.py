"""The cold tier in a real object store: the contract of a store, and what happens when the server refuses or is slow."""

from __future__ import annotations

import secrets

import pytest

from kvspark.errors import StoreError, StoreUnavailableError
from kvspark.store.files.cold import ColdStore
from kvspark.store.files.compaction import compact
from kvspark.store.files.segment_folder import Folder
from tests.object_proxy import late, object_proxy, say
from tests.object_server import SECRET_KEY
from tests.store.calls import get_many, set_many
from tests.store.files.test_cold import Drained
from tests.store.store_contract import StoreContract


@pytest.fixture
def folder(s3):
    return f"{s3.url}/{secrets.token_hex(4)}/cold"


def connect(folder: str) -> ColdStore:
    return ColdStore(Folder.at(folder))


class TestColdStoreInS3(StoreContract):
    @pytest.fixture
    def store(self, folder):
        store = Drained(connect(folder))
        yield store
        store.close()

    def test_a_forked_child_and_its_parent_both_go_on(self, store, key):
        """Arrow's client of S3 has threads, which a forked child has not: of many runs, one hung. Spark forks its workers
        from a process that opens no store."""


def test_segments_are_merged(folder):
    for number in range(3):
        store = connect(folder)
        set_many(store, [(b"%d" % number, b"value"), (b"same", b"%d" % number)], ttl_s=60)
        assert store.drain() == {}
    made = compact(Folder.at(folder))
    assert (made.segments_before, made.segments_after, made.entries) == (3, 1, 4)
    assert len(Folder.at(folder).names()) == 1
    assert get_many(connect(folder), [b"0", b"1", b"2", b"same"]) == [b"value"] * 3 + [b"2"]


@pytest.fixture
def proxy(s3, monkeypatch):
    """In front of the server, for stores that are made from now on."""
    with object_proxy(s3.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        yield proxy


def test_a_server_that_refuses_is_a_store_that_does_not_answer_and_then_does(folder, proxy):
    store = connect(folder)
    set_many(store, [(b"a", b"value")], ttl_s=60)
    assert store.drain() == {}
    proxy.turn_on(say(403, "ExpiredToken"), lambda method, path: True)
    other = connect(folder)
    with pytest.raises(StoreError) as told:
        get_many(other, [b"a"])
    assert proxy.fired >= 1
    assert "\n" not in str(told.value)
    assert SECRET_KEY not in str(told.value)
    set_many(other, [(b"b", b"value")], ttl_s=60)
    assert sum(other.drain().values()) == 1
    proxy.turn_off()
    assert get_many(other, [b"a", b"b"]) == [b"value", None]


def test_a_slow_server_is_left_at_the_deadline(folder, proxy):
    store = connect(folder)
    set_many(store, [(b"a", b"value")], ttl_s=60)
    assert store.drain() == {}
    proxy.turn_on(late(1.0), lambda method, path: True)
    other = connect(folder)
    with pytest.raises(StoreUnavailableError, match="TimeoutError"):
        get_many(other, [b"a"], timeout_s=0.2)
    proxy.turn_off()
    assert get_many(other, [b"a"]) == [b"value"]
