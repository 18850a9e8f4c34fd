"""Several stores are one: what is found is copied upwards, and who is away costs its part."""

from __future__ import annotations

import os
import signal
import time

import pytest

from kvspark.config.cache import CacheConfig
from kvspark.errors import StoreError, StoreFullError, StoreUnavailableError
from kvspark.store.deadline import Deadline
from kvspark.store.endpoint import Endpoint
from kvspark.store.memory.memory import MemoryStore
from kvspark.store.opening.url import open_store
from kvspark.store.redis.server import RedisStore
from kvspark.store.tiered.tier import Tier
from kvspark.store.tiered.tiered import MEMORY_S, TieredStore, process_memory
from tests.redis_server import running_redis
from tests.store.calls import delete, get_many, ping, set_many
from tests.store.clock import Clock
from tests.store.store_contract import StoreContract

pytestmark = pytest.mark.redis

TIMEOUT_S = 1.0
SLACK_S = 2.0


def over(*stores, memory_bytes: int = 2**20) -> TieredStore:
    tiers = [Tier(store, copy_ttl_s=60) for store in stores]
    return TieredStore([process_memory(memory_bytes), *tiers])


class TestMemoryInFrontOfRedis(StoreContract):
    @pytest.fixture
    def store(self, redis_server):
        config = CacheConfig.checked(
            url=redis_server.url, namespace="n", l1_bytes=2**20, timeout_ms=5_000
        )
        store = open_store(config)
        assert isinstance(store, TieredStore)
        yield store
        store.close()


class TestMemoryRedisAndFiles(StoreContract):
    @pytest.fixture
    def store(self, redis_server, tmp_path):
        config = CacheConfig.checked(
            url=f"{redis_server.url}/6",
            namespace="n",
            l1_bytes=2_000,
            cold=(tmp_path / "cold").as_uri(),
            timeout_ms=5_000,
        )
        store = open_store(config)
        assert isinstance(store, TieredStore)
        assert len(store.tiers) == 3
        yield store
        store.close()


class TestThreeTiers(StoreContract):
    @pytest.fixture
    def store(self, redis_server):
        server = RedisStore(Endpoint("127.0.0.1", redis_server.port, db=5))
        store = over(server, MemoryStore(), memory_bytes=2_000)
        yield store
        store.close()


@pytest.fixture
def server():
    """A server that may be hurt."""
    with running_redis() as server:
        yield server


@pytest.fixture
def redis(server):
    store = RedisStore(Endpoint("127.0.0.1", server.port))
    yield store
    store.close()


def test_what_was_looked_up_or_set_is_not_asked_for_again(server, redis):
    set_many(redis, [(b"a", b"1"), (b"b", b"2")], ttl_s=60)
    store = over(redis)
    for _ in range(5):
        assert get_many(store, [b"a", b"b"]) == [b"1", b"2"]
    assert server.count("mget") == 1
    set_many(store, [(b"c", b"3")], ttl_s=60)
    assert get_many(store, [b"c", b"b", b"a"]) == [b"3", b"2", b"1"]
    assert server.count("mget") == 1
    assert get_many(store, [b"a", b"d"]) == [b"1", None]
    assert server.count("mget") == 2


def test_memory_is_bounded_in_bytes_and_the_server_has_the_rest(server, redis):
    memory = MemoryStore(10_000)
    tiers = [Tier(memory, copy_ttl_s=60, is_shared=False), Tier(redis, copy_ttl_s=60)]
    store = TieredStore(tiers)
    entries = [(b"%d" % row, b"x" * 1_000) for row in range(100)]
    set_many(store, entries, ttl_s=60)
    assert memory.size_bytes <= 10_000
    assert get_many(store, [key for key, _ in entries]) == [value for _, value in entries]


def test_a_copy_in_memory_is_not_believed_for_longer_than_it_may_be(redis):
    now = 0.0
    memory = MemoryStore(clock=lambda: now)
    tiers = [Tier(memory, copy_ttl_s=MEMORY_S, is_shared=False), Tier(redis, copy_ttl_s=60)]
    store = TieredStore(tiers)
    set_many(store, [(b"a", b"1")], ttl_s=None)
    delete(redis, [b"a"])
    assert get_many(store, [b"a"]) == [b"1"]
    now = MEMORY_S
    assert get_many(store, [b"a"]) == [None]


def test_what_only_the_last_tier_has_is_lifted_into_all_before_it(redis):
    last = MemoryStore()
    set_many(last, [(b"a", b"1")], ttl_s=None)
    store = over(redis, last)
    assert get_many(store, [b"b", b"a"]) == [None, b"1"]
    assert get_many(redis, [b"a"]) == [b"1"]
    delete(last, [b"a"])
    assert get_many(store, [b"a"]) == [b"1"]


def test_what_is_in_memory_is_given_while_the_server_is_away_and_it_is_told(server, redis):
    store = over(redis)
    set_many(store, [(b"a", b"1")], ttl_s=60)
    server.signal(signal.SIGSTOP)
    with Clock() as clock:
        for _ in range(20):
            assert get_many(store, [b"a", b"b"], timeout_s=TIMEOUT_S) == [b"1", None]
    server.signal(signal.SIGCONT)
    # Three times; then the server is left alone.
    assert TIMEOUT_S * 2.5 < clock.seconds < 3 * TIMEOUT_S + SLACK_S
    assert store.drain() == {"timeout": 3, "unavailable": 17}
    assert store.drain() == {}


def test_a_server_that_is_away_and_nothing_in_memory_is_an_error(server, redis):
    store = over(redis)
    server.signal(signal.SIGKILL)
    for call in (
        lambda: get_many(store, [b"a"]),
        lambda: set_many(store, [(b"a", b"1")], ttl_s=60),
        lambda: delete(store, [b"a"]),
        lambda: ping(store),
    ):
        with pytest.raises(StoreUnavailableError):
            call()


def test_two_shared_tiers_do_without_one_of_them(server, redis):
    last = MemoryStore()
    store = over(redis, last)
    set_many(store, [(b"a", b"1")], ttl_s=60)
    server.signal(signal.SIGSTOP)
    with Clock() as clock:
        assert set_many(store, [(b"b", b"2")], ttl_s=60, timeout_s=TIMEOUT_S) == 1
        found = get_many(over(redis, last), [b"a", b"b"], timeout_s=TIMEOUT_S)
        assert found == [b"1", b"2"]
    assert clock.seconds < 2 * TIMEOUT_S + SLACK_S
    server.signal(signal.SIGCONT)
    assert store.drain() == {"timeout": 1}


def test_the_leases_of_tiers_are_those_of_the_store_that_others_reach(redis):
    deadline = Deadline.after(TIMEOUT_S)
    first, second = over(MemoryStore(), redis).leases(), over(redis).leases()
    assert first is not None
    assert second is not None
    assert first.claim_many([b"a"], deadline, ttl_s=60) == [True]
    assert second.claim_many([b"a", b"b"], deadline, ttl_s=60) == [False, True]
    assert over(MemoryStore()).leases() is None


def test_a_full_server_is_told_once_and_written_to_no_more(server, redis):
    server.ask("CONFIG", "SET", "maxmemory", "1")
    store = over(redis, MemoryStore())
    for row in range(5):
        assert set_many(store, [(b"%d" % row, b"1")], ttl_s=60) == 1
    assert store.drain() == {"full": 1, "unavailable": 4}
    assert get_many(store, [b"x"]) == [None]
    assert store.drain() == {}
    alone = over(redis)
    with pytest.raises(StoreFullError):
        set_many(alone, [(b"a", b"1")], ttl_s=60)


def test_deleting_is_an_error_where_a_tier_may_still_have_it(server, redis):
    store = over(redis, MemoryStore())
    set_many(store, [(b"a", b"1")], ttl_s=60)
    server.signal(signal.SIGSTOP)
    with pytest.raises(StoreError):
        delete(store, [b"a"], timeout_s=TIMEOUT_S)
    server.signal(signal.SIGCONT)
    assert delete(store, [b"a"], timeout_s=5) == 1


def test_a_forked_child_does_not_wait_for_its_parents_threads():
    memory = MemoryStore()
    set_many(memory, [(b"a", b"1")], ttl_s=None)
    with memory._lock:
        pid = os.fork()
        if pid == 0:
            os._exit(0 if get_many(memory, [b"a"]) == [b"1"] else 1)
        ends = time.monotonic() + 10
        while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0):
            if time.monotonic() > ends:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
    assert os.waitstatus_to_exitcode(ended[1]) == 0


def test_what_redis_has_lost_is_lifted_from_files(server, tmp_path):
    config = CacheConfig.checked(
        url=server.url, namespace="n", cold=(tmp_path / "cold").as_uri(), timeout_ms=5_000
    )
    store = open_store(config)
    set_many(store, [(b"a", b"1")], ttl_s=600)
    store.close()
    server.ask("FLUSHALL")
    again = open_store(config)
    assert get_many(again, [b"a", b"b"]) == [b"1", None]
    assert server.ask("GET", "a") == b"$1\r\n1\r\n"
    assert again.drain() == {}
    again.close()


def test_what_lives_for_a_minute_goes_into_no_segment(redis_server, tmp_path):
    cold = tmp_path / "cold"
    config = CacheConfig.checked(url=f"{redis_server.url}/6", namespace="n", cold=cold.as_uri())
    store = open_store(config)
    assert set_many(store, [(b"short", b"1")], ttl_s=60) == 1
    store.close()
    assert not [path for path in cold.rglob("*") if path.is_file()]
    store = open_store(config)
    assert get_many(store, [b"short"]) == [b"1"]
    assert set_many(store, [(b"long", b"2")], ttl_s=3_600) == 1
    store.close()
    assert [path for path in cold.rglob("*") if path.is_file()]
