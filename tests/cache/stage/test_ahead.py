"""Rows that are looked up ahead: once, after what was inserted before, and again where that has changed."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest

from tests.cache.stage.test_overlap import COUNT, NAMES, behind, found_in, opened, put
from tests.redis_server import running_redis

pytestmark = pytest.mark.redis


@pytest.fixture
def server():
    with running_redis() as server:
        yield server


@pytest.fixture
def cache(server):
    with closing(behind(server)) as cache:
        yield cache


def test_rows_are_looked_up_ahead_and_not_twice(server, cache):
    stage = opened(cache)
    put(stage, slice(0, 100))
    reader = stage.entries.ahead
    assert reader is not None
    ahead = stage.overlap.ahead(reader, stage.entries.digests(NAMES[:150]))
    stage.overlap.flush()
    before = server.count("mget")
    lookup = ahead.lookup()
    assert lookup is not None
    # What was put before it was asked for is there; the look-up was made by the thread alone.
    assert lookup.found.tolist() == [True] * 100 + [False] * 50
    assert server.count("mget") == before


def test_rows_that_were_missing_ahead_and_inserted_since_are_looked_up_again(server, cache):
    stage = opened(cache)
    reader = stage.entries.ahead
    assert reader is not None
    ahead = [
        stage.overlap.ahead(reader, stage.entries.digests(NAMES[at : at + 50])) for at in (0, 50)
    ]
    stage.overlap.flush()
    put(stage, slice(40, 50))
    assert ahead[0].lookup() is None
    assert ahead[1].lookup() is not None
    assert stage.entries.lookup(stage.entries.digests(NAMES[:50])).found.sum() == 10


def test_where_there_is_no_thread_to_be_had_rows_are_inserted_at_once(server, cache, monkeypatch):
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    stage = opened(cache)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert put(stage) > 0
    assert found_in(stage.entries) == COUNT
    reader = stage.entries.ahead
    assert reader is not None
    assert stage.overlap.ahead(reader, stage.entries.digests(NAMES)).lookup() is None
