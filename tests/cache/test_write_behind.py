"""Inserts behind the computation: bounded, counted, found before they are written, and never in the way."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest

from kvspark.cache.cache import Cache
from kvspark.cache.guard import Guard
from kvspark.cache.store.redis.slots import slot_of_tag
from kvspark.cache.write_behind import WriteBehind
from kvspark.spec import Rows, TensorSpec
from tests.redis_cluster import ClusterAddress, running_cluster, wait_until
from tests.redis_sentinel import SERVICE, SentinelAddress, running_sentinels
from tests.redis_server import PATIENT_MS, RedisAddress, running_redis

pytestmark = pytest.mark.redis

SPECS = (TensorSpec("fixed", "float32", (16,)), TensorSpec("varying", "uint8", (None,)))
COUNT = 300
ROW_BYTES = 64 + 7 + 256
"""What a row of these tests takes in the queue: its tensors, and the rest."""

FIXED = np.random.default_rng(1).standard_normal((COUNT, 16)).astype("<f4")
VARYING: Rows = [np.full(7, row % 251, np.uint8) for row in range(COUNT)]
NAMES = [b"%d" % row for row in range(COUNT)]


Server = RedisAddress | SentinelAddress | ClusterAddress


@pytest.fixture
def server() -> Iterator[RedisAddress]:
    """A server that may be hurt."""
    with running_redis() as server:
        yield server


@pytest.fixture
def cache(server) -> Iterator[Cache]:
    """A cache with a queue for all rows and more."""
    with closing(behind(server)) as cache:
        yield cache


def behind(server: Server, max_bytes: int = 1 << 20) -> Cache:
    plain = Cache.connect(server.url, namespace="n", timeout_ms=PATIENT_MS)
    return Cache.from_config(plain.config.model_copy(update={"write_behind_bytes": max_bytes}))


def queue_of(cache: Cache) -> WriteBehind:
    queue = cache.write_behind()
    assert queue is not None
    return queue


def put(entries, rows: slice = slice(None)) -> None:
    digests = entries.digests(NAMES[rows])
    assert entries.insert(digests, (FIXED[rows], VARYING[rows]), cost_us=1) == 0


def found_in(entries) -> int:
    """How many rows are found, whose bits are right."""
    lookup = entries.lookup(entries.digests(NAMES))
    fixed, varying = lookup.columns
    rows = np.flatnonzero(lookup.found).tolist()
    assert np.asarray(fixed).tobytes() == FIXED[lookup.found].tobytes()
    assert [row.tobytes() for row in varying] == [VARYING[row].tobytes() for row in rows]
    return len(rows)


def stored(server: Server) -> int:
    """How many rows another process would find."""
    with closing(Cache.connect(server.url, namespace="n", timeout_ms=PATIENT_MS)) as cache:
        return found_in(cache.keyspace(b"stage", SPECS))


def pause_writes(server: RedisAddress) -> None:
    server.ask("CLIENT", "PAUSE", "60000", "WRITE")


def is_held_up(server: RedisAddress) -> bool:
    """Whether a client waits for the end of a pause."""
    return server.info("clients", "blocked_clients") > 0


def threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "kvspark-write-behind"]


def ends(thread_is_there=threads) -> bool:
    """Whether the thread is gone, at once or soon."""
    until = time.monotonic() + PATIENT_MS / 1_000
    while thread_is_there() and time.monotonic() < until:
        time.sleep(0.01)
    return not thread_is_there()


def test_what_is_inserted_behind_is_what_is_inserted_at_once(server, cache):
    entries = queue_of(cache).keyspace(b"stage", SPECS)
    put(entries, slice(0, 200))
    put(entries, slice(200, COUNT))
    written = entries.flush().bytes_written
    assert stored(server) == COUNT
    assert written == cache.keyspace(b"other", SPECS).insert(
        cache.keyspace(b"other", SPECS).digests(NAMES), (FIXED, VARYING), cost_us=1
    )
    assert entries.flush().bytes_written == 0
    assert cache.drain().degraded == frozenset()
    assert ends()


def test_rows_are_found_while_they_wait(server, cache):
    entries = queue_of(cache).keyspace(b"stage", SPECS)
    put(entries, slice(0, 100))
    entries.flush()
    pause_writes(server)
    put(entries, slice(50, 150))
    put(entries, slice(140, 200))
    assert stored(server) == 100
    assert found_in(entries) == 200
    lookup = entries.lookup(entries.digests(NAMES[190:]))
    assert lookup.found.sum() == 10
    # Copies: who looked may write to them.
    for column in lookup.columns:
        for row in column:
            row[...] = 0
    server.ask("CLIENT", "UNPAUSE")
    assert entries.flush().bytes_written > 0
    assert (stored(server), found_in(entries)) == (200, 200)
    assert cache.drain().degraded == frozenset()


def test_a_full_queue_drops_rows_and_says_so(server, caplog):
    with closing(behind(server, 100 * ROW_BYTES)) as cache:
        entries = queue_of(cache).keyspace(b"stage", SPECS)
        pause_writes(server)
        put(entries, slice(0, 80))
        put(entries, slice(80, COUNT))
        put(entries, slice(200, COUNT))
        assert found_in(entries) == 100
        server.ask("CLIENT", "UNPAUSE")
        entries.flush()
        assert stored(server) == 100
        stats = cache.drain()
        put(entries, slice(100, 200))
        entries.flush()
        assert stored(server) == 200
    assert stats.errors == {"dropped": 300}
    assert stats.degraded == {"dropped"}
    assert [record.args for record in caplog.records] == [(300,)]


def test_a_flush_waits_no_longer_than_its_patience(server, cache):
    queue = queue_of(cache)
    entries = queue.keyspace(b"stage", SPECS)
    pause_writes(server)
    put(entries, slice(0, 100))
    wait_until(lambda: is_held_up(server))
    put(entries, slice(100, 180))
    hasty = queue._writes = Guard(cache.store, timeout_s=0.01)
    assert entries.flush().bytes_written == 0
    assert hasty.drain().errors == {"dropped": 80}
    # The call that is under way goes on, and is not waited for again.
    assert entries.flush().bytes_written == 0
    assert hasty.drain().errors == {}
    assert len(threads()) == 1
    server.ask("CLIENT", "UNPAUSE")
    assert ends()
    assert stored(server) == 100
    assert entries.flush().bytes_written > 0


def test_a_mistake_in_one_insert_leaves_the_others_alone(server, cache, caplog):
    entries = queue_of(cache).keyspace(b"stage", SPECS)
    put(entries, slice(0, 100))
    entries.insert(entries.digests([b"x"]), (FIXED[:1].astype("<f8"), VARYING[:1]), cost_us=1)
    put(entries, slice(100, COUNT))
    assert entries.flush().bytes_written > 0
    assert stored(server) == COUNT
    stats = cache.drain()
    assert (stats.errors, stats.degraded) == ({"failed": 1}, {"failed"})
    assert "UsageError" in caplog.text


def test_a_server_that_died_costs_rows_and_no_error(server, cache):
    entries = queue_of(cache).keyspace(b"stage", SPECS)
    put(entries, slice(0, 100))
    entries.flush()
    server.signal(signal.SIGKILL)
    for start in range(100, 200, 10):
        put(entries, slice(start, start + 10))
        entries.flush()
    stats = cache.drain()
    assert stats.degraded == {"unavailable"}
    # Three calls of the thread, or of what it asks before it writes; then it is left alone.
    assert stats.errors["unavailable"] == 3
    assert stats.errors["skipped"] > 0
    assert ends()


def test_rows_that_wait_through_a_failover_are_written_to_the_new_primary():
    with running_sentinels(sentinels=1) as watched, closing(behind(watched)) as cache:
        entries = queue_of(cache).keyspace(b"stage", SPECS)
        put(entries, slice(0, 100))
        entries.flush()
        wait_until(lambda: watched.replica.ask("DBSIZE") == watched.primary.ask("DBSIZE"))
        pause_writes(watched.primary)
        put(entries, slice(100, 200))
        wait_until(lambda: is_held_up(watched.primary))
        put(entries, slice(200, COUNT))
        # The thread has a connection of its own: look-ups do not wait for it.
        assert found_in(entries) == COUNT
        (sentinel,) = watched.sentinels
        wait_until(lambda: sentinel.ask("SENTINEL", "FAILOVER", SERVICE) == b"+OK\r\n")
        wait_until(lambda: watched.primary_port() == watched.replica.port)
        watched.primary.ask("REPLICAOF", "127.0.0.1", str(watched.replica.port))
        watched.primary.ask("CLIENT", "UNPAUSE")
        assert entries.flush().bytes_written > 0
        assert watched.replica.ask("DBSIZE") == b":%d\r\n" % COUNT
        assert stored(watched) == COUNT
        assert cache.drain().degraded == frozenset()


def test_a_cluster_node_that_is_lost_while_rows_wait_costs_its_share_of_them():
    with running_cluster(3) as cluster, closing(behind(cluster)) as cache:
        entries = queue_of(cache).keyspace(b"stage", SPECS)
        put(entries, slice(0, 100))
        entries.flush()
        for node in cluster.nodes:
            pause_writes(node)
        put(entries, slice(100, 200))
        wait_until(lambda: all(is_held_up(node) for node in cluster.nodes))
        put(entries, slice(200, COUNT))
        # The thread has connections of its own: look-ups do not wait for it.
        assert found_in(entries) == COUNT
        lost, *others = cluster.nodes
        lost.signal(signal.SIGKILL)
        for node in others:
            node.ask("CLIENT", "UNPAUSE")
        assert entries.flush().bytes_written > 0
        tags = [b"%02x" % (digest[0] >> 2) for digest in entries.digests(NAMES)]
        left = sum(cluster.owner(slot_of_tag(tag)) != 0 for tag in tags)
        assert 0 < left < COUNT
        assert stored(cluster) == left
        # Nobody but the thread has met the node that is gone.
        assert cache.drain().degraded == {"unavailable"}


def test_a_full_server_is_sent_one_insert_and_read_all_the_same(server, cache):
    entries = queue_of(cache).keyspace(b"stage", SPECS)
    put(entries, slice(0, 100))
    entries.flush()
    server.ask("CONFIG", "SET", "maxmemory", "1")
    for start in range(100, 200, 10):
        put(entries, slice(start, start + 10))
    entries.flush()
    assert found_in(entries) == 100
    assert cache.drain().errors == {"full": 1, "skipped": 9}


def test_a_forked_child_and_its_parent_both_go_on(server, cache):
    entries = queue_of(cache).keyspace(b"stage", SPECS)
    pause_writes(server)
    put(entries, slice(0, 100))
    pid = os.fork()
    if pid == 0:  # the child: leave without pytest's own end
        is_right = False
        try:
            is_right = found_in(entries) == 0 and not threads()
            server.ask("CLIENT", "UNPAUSE")
            put(entries, slice(100, 200))
            is_right = is_right and entries.flush().bytes_written > 0 and found_in(entries) >= 100
        finally:
            os._exit(0 if is_right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert entries.flush().bytes_written > 0
    assert stored(server) == 200
    assert cache.drain().degraded == frozenset()


def test_a_process_that_is_killed_leaves_whole_rows(server, cache):
    entries = queue_of(cache).keyspace(b"stage", SPECS)
    pid = os.fork()
    if pid == 0:
        for start in range(0, COUNT, 10):
            put(entries, slice(start, start + 10))
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    known = stored(server)
    assert known <= COUNT
    put(entries)
    entries.flush()
    assert stored(server) == COUNT


def test_a_store_in_memory_has_a_queue_as_well():
    plain = Cache.connect("memory://", namespace="n")
    cache = Cache.from_config(plain.config.model_copy(update={"write_behind_bytes": 1 << 20}))
    entries = queue_of(cache).keyspace(b"stage", SPECS)
    put(entries)
    assert entries.flush().bytes_written > 0
    assert found_in(cache.keyspace(b"stage", SPECS)) == COUNT


def test_without_a_queue_nothing_is_written_behind(server):
    assert Cache.connect(server.url, namespace="n").write_behind() is None
