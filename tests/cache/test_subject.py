"""Entries that are bound to a subject: who they belong to is in their keys, and nothing else is."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvspark.cache.cache import Cache
from kvspark.cache.entry.writer import ERASED
from kvspark.cache.key.key import (
    RowDigests,
    StageKeys,
    is_erased,
    keys_of_subjects,
    namespace_key,
    subject_mark,
)
from kvspark.cache.stage.tombstones import REFRESH_S
from kvspark.config.cache import CacheConfig
from kvspark.spec import TensorSpec
from tests.redis_server import RedisAddress, running_redis
from tests.store.calls import get_many, scanned

pytestmark = pytest.mark.redis

EMBEDDING = (TensorSpec("embedding", "float32", (4,)),)
TRUNK, HEAD = b"\x01" * 32, b"\x02" * 32
ROWS = [b"row %d" % (row % 100) for row in range(300)]
WHOSE = [b"subject %d" % (row // 100) for row in range(300)]
"""The same 100 rows, of three subjects."""
NAMESPACE = namespace_key("n", None)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisAddress]:
    with running_redis() as running:
        yield running


@pytest.fixture
def cache(server: RedisAddress) -> Iterator[Cache]:
    server.ask("FLUSHALL")
    cache = Cache.connect(server.url, namespace="n", timeout_ms=5_000)
    for identity in (TRUNK, HEAD):
        fill(cache, identity)
    yield cache
    cache.close()


def fill(cache: Cache, identity: bytes, subjects=WHOSE) -> int:
    space = cache.keyspace(identity, EMBEDDING)
    values = np.ones((len(ROWS), 4), dtype="<f4")
    return space.insert(space.digests(ROWS, subjects), (values,), cost_us=1)


def found(cache: Cache, identity: bytes, subject: bytes) -> int:
    space = cache.keyspace(identity, EMBEDDING)
    return int(space.lookup(space.digests(ROWS[:100], [subject] * 100)).found.sum())


def test_all_of_a_subject_is_removed_from_every_stage_and_nothing_of_others(cache):
    space = cache.keyspace(TRUNK, EMBEDDING)
    assert space.insert(space.digests(ROWS[:100]), (np.ones((100, 4), "<f4"),), cost_us=1)
    purge = cache.purge(sleep=lambda _: None)
    done = purge.subjects([WHOSE[0]])
    assert (done.entries, done.left) == (200, 0)
    for identity in (TRUNK, HEAD):
        assert [found(cache, identity, whose) for whose in WHOSE[::100]] == [0, 100, 100]
    # Entries that are bound to nobody are nobody's.
    assert space.lookup(space.digests(ROWS[:100])).found.all()


def test_a_run_that_is_under_way_cannot_bring_a_subject_back(server, cache):
    now = [0.0]
    config = CacheConfig.checked(url=server.url, namespace="n", timeout_ms=5_000)
    running = Cache(config, clock=lambda: now[0])
    fill(running, TRUNK)

    def meanwhile(seconds: float) -> None:
        fill(running, TRUNK)
        assert seconds > REFRESH_S
        now[0] += seconds

    purge = cache.purge(sleep=meanwhile)
    assert purge.subjects([WHOSE[0]]).left == 0
    fill(running, TRUNK)
    assert running.drain().errors == {ERASED: 100}
    assert [found(cache, TRUNK, whose) for whose in WHOSE[::100]] == [0, 100, 100]
    running.close()


def test_nothing_that_is_left_in_the_store_opens_as_a_row_of_the_subject(cache):
    purge = cache.purge(sleep=lambda _: None)
    purge.subjects([WHOSE[0]])
    keys = scanned(cache.store, b"")
    values = [value for value in get_many(cache.store, keys) if value is not None]
    assert len(values) >= 400
    entry_format = cache.keyspace(TRUNK, EMBEDDING).reader.format
    for digest in RowDigests(cache.key, TRUNK).of(ROWS[:100], WHOSE[:100]):
        assert not entry_format.decode_many(values, [digest] * len(values)).found.any()


def test_one_row_of_one_subject_is_erased_and_the_equal_row_of_another_stays(cache):
    purge = cache.purge(sleep=lambda _: None)
    done = purge.rows(dict.fromkeys((TRUNK, HEAD), ROWS[:1]), WHOSE[:1])
    assert (done.entries, done.left) == (2, 0)
    assert [found(cache, TRUNK, whose) for whose in WHOSE[::100]] == [99, 100, 100]


@given(st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=40))
def test_keys_tell_the_subject_and_no_two_rows_or_subjects_share_one(row, subject, other):
    digests = RowDigests(NAMESPACE, TRUNK)
    mine, plain = digests.of([row], [subject]), digests.of([row])
    keys = StageKeys(NAMESPACE, TRUNK).of([*mine, *plain])
    mark = subject_mark(NAMESPACE, subject)
    assert keys_of_subjects(keys, {mark}) == keys[:1]
    assert digests.of([row], [other]) == mine or other != subject
    assert is_erased(mine[0], set(mine))
    assert not is_erased(plain[0], set(mine))
    assert mark != subject_mark(namespace_key("other", None), subject)


def test_the_digests_of_a_subject_lie_in_all_slots_and_all_shares():
    rows = [b"%d" % row for row in range(4_000)]
    digests = RowDigests(NAMESPACE, TRUNK).of(rows, [b"one"] * len(rows))
    assert len({digest[0] for digest in digests}) == 256
    assert len({digest[28] for digest in digests}) == 256
    assert len({digest[8:16] for digest in digests}) == 1
