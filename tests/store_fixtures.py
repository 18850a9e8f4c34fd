"""What the tests of the cache may ask for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import count

import pytest

from kvspark.store.embedded.embedded import EmbeddedStore
from kvspark.store.files import cold
from kvspark.store.redis.server import RedisStore
from tests.redis_server import RedisAddress, running_redis
from tests.store.embedded.embedded_processes import settle
from tests.store.redis.redis_stores import over_socket, over_tcp

_PREFIX = count()


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a task waits for its file, however busy the machine is."""
    monkeypatch.setattr(cold, "FLUSH_S", 60.0)


@pytest.fixture
def key():
    """A function that makes keys which no other test uses."""
    prefix = b"%d/%d/" % (os.getpid(), next(_PREFIX))
    return lambda name: prefix + name


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisAddress]:
    """A server that the tests of a session share; a test that hurts its server starts its own."""
    with running_redis() as server:
        yield server


@pytest.fixture
def own_server() -> Iterator[RedisAddress]:
    """A server that may be hurt."""
    with running_redis() as server:
        yield server


@pytest.fixture(params=[over_tcp, over_socket], ids=["tcp", "unix"])
def connect(request: pytest.FixtureRequest) -> Callable[[RedisAddress], RedisStore]:
    """How to reach a server, by one way and the other."""
    return request.param


@pytest.fixture
def folder(tmp_path):
    """A folder for a server, which must have ended by itself when the test is over."""
    folder = tmp_path / "store"
    yield folder
    settle(folder)


@pytest.fixture
def embedded_store(folder):
    """A store on the server of `folder`."""
    store = EmbeddedStore(folder)
    yield store
    store.close()
