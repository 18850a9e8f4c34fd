"""The cold tier in a real object store: the contract of a store, and what happens when the server refuses or is slow."""

from __future__ import annotations

import secrets

import pytest

from kvspark.errors import StoreError, StoreUnavailableError
from tests.object_proxy import late, object_proxy, say
from tests.object_server import SECRET_KEY
from tests.store.calls import get_many, set_many
from tests.store.files.remote_cold import RemoteColdContract, connect


@pytest.fixture
def folder(s3):
    return f"{s3.url}/{secrets.token_hex(4)}/cold"


class TestColdStoreInS3(RemoteColdContract):
    pass


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
