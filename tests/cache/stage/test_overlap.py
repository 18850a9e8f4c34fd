"""Inserts and look-ups beside the computation: bounded, counted, in their order, and never in the way."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import pytest

from kvspark.cache.cache import Cache
from kvspark.cache.guard.guard import Guard
from kvspark.cache.stage.overlap import Overlap
from kvspark.cache.stage.stage_cache import StageCache
from kvspark.spec import Rows, TensorSpec
from kvspark.store.resp.slots import slot_of_tag
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
    return Cache.from_config(plain.config.model_copy(update={"overlap_bytes": max_bytes}))


@dataclass(frozen=True)
class Behind:
    """A stage whose rows are inserted behind."""

    overlap: Overlap
    entries: StageCache

    def flush(self) -> int:
        """Bytes that were written since the last time."""
        stats = self.overlap.flush().get("stage")
        return 0 if stats is None else stats.bytes_written


def opened(cache: Cache) -> Behind:
    overlap = cache.overlap()
    assert overlap is not None
    beside = cache.keyspace(b"stage", SPECS, guard=overlap.guard)
    return Behind(overlap, overlap.around(cache.keyspace(b"stage", SPECS), beside, "stage"))


def put(behind: Behind, rows: slice = slice(None)) -> int:
    digests = behind.entries.digests(NAMES[rows])
    return behind.entries.insert(digests, (FIXED[rows], VARYING[rows]), cost_us=1)


def found_in(entries: StageCache) -> int:
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
    return [each for each in threading.enumerate() if each.name == "kvspark-overlap"]


def ends(thread_is_there=threads) -> bool:
    """Whether the thread is gone, at once or soon."""
    until = time.monotonic() + PATIENT_MS / 1_000
    while thread_is_there() and time.monotonic() < until:
        time.sleep(0.01)
    return not thread_is_there()


def test_what_is_inserted_behind_is_what_is_inserted_at_once(server, cache):
    stage = opened(cache)
    put(stage, slice(0, 200))
    put(stage, slice(200, COUNT))
    written = stage.flush()
    assert stored(server) == COUNT
    assert written == cache.keyspace(b"other", SPECS).insert(
        cache.keyspace(b"other", SPECS).digests(NAMES), (FIXED, VARYING), cost_us=1
    )
    assert stage.flush() == 0
    assert cache.drain().degraded == frozenset()
    assert ends()


def test_rows_that_wait_are_looked_up_when_they_are_written(server, cache):
    stage = opened(cache)
    put(stage, slice(0, 100))
    stage.flush()
    pause_writes(server)
    put(stage, slice(100, 200))
    assert stored(server) == 100
    # Those that do not wait are looked up at once.
    digests = stage.entries.digests(NAMES)
    assert stage.entries.lookup(digests[:100]).found.all()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(stage.entries.lookup, digests[150:250])
        wait_until(lambda: is_held_up(server))
        assert not waiting.done()
        server.ask("CLIENT", "UNPAUSE")
        assert waiting.result().found.sum() == 50
    assert stage.flush() > 0
    assert found_in(stage.entries) == 200
    assert cache.drain().degraded == frozenset()


def test_what_does_not_fit_is_inserted_at_once(server):
    with closing(behind(server, 100 * ROW_BYTES)) as cache:
        stage = opened(cache)
        pause_writes(server)
        assert put(stage, slice(0, 80)) == 0
        wait_until(lambda: is_held_up(server))
        with ThreadPoolExecutor(1) as pool:
            inserting = pool.submit(put, stage, slice(80, COUNT))
            wait_until(lambda: server.info("clients", "blocked_clients") == 2)
            server.ask("CLIENT", "UNPAUSE")
            assert inserting.result() > 0
        assert stage.flush() > 0
        assert found_in(stage.entries) == COUNT
        assert cache.drain().errors == {}


def test_a_flush_waits_no_longer_than_its_patience(server, cache):
    stage = opened(cache)
    pause_writes(server)
    put(stage, slice(0, 100))
    wait_until(lambda: is_held_up(server))
    put(stage, slice(100, 180))
    hasty = stage.overlap.guard = Guard(cache.store, timeout_s=0.01)
    assert stage.flush() == 0
    assert hasty.drain().errors == {"dropped": 80}
    # The call that is under way goes on, and is not waited for again.
    assert stage.flush() == 0
    assert hasty.drain().errors == {}
    assert len(threads()) == 1
    server.ask("CLIENT", "UNPAUSE")
    assert ends()
    assert stored(server) == 100
    assert stage.flush() > 0


def test_a_mistake_in_one_insert_leaves_the_others_alone(server, cache, caplog):
    stage = opened(cache)
    put(stage, slice(0, 100))
    digests = stage.entries.digests([b"x"])
    stage.entries.insert(digests, (FIXED[:1].astype("<f8"), VARYING[:1]), cost_us=1)
    put(stage, slice(100, COUNT))
    assert stage.flush() > 0
    assert stored(server) == COUNT
    stats = cache.drain()
    assert (stats.errors, stats.degraded) == ({"failed": 1}, {"failed"})
    assert "UsageError" in caplog.text


def test_a_server_that_died_costs_rows_and_no_error(server, cache):
    stage = opened(cache)
    put(stage, slice(0, 100))
    stage.flush()
    server.signal(signal.SIGKILL)
    for start in range(100, 200, 10):
        put(stage, slice(start, start + 10))
        stage.flush()
    stats = cache.drain()
    assert stats.degraded == {"unavailable"}
    # Three calls of the thread, or of what it asks before it writes; then it is left alone.
    assert stats.errors["unavailable"] == 3
    assert stats.errors["skipped"] > 0
    assert ends()


def test_rows_that_wait_through_a_failover_are_written_to_the_new_primary():
    with running_sentinels(sentinels=1) as watched, closing(behind(watched)) as cache:
        stage = opened(cache)
        put(stage, slice(0, 100))
        stage.flush()
        wait_until(lambda: watched.replica.ask("DBSIZE") == watched.primary.ask("DBSIZE"))
        pause_writes(watched.primary)
        put(stage, slice(100, 200))
        wait_until(lambda: is_held_up(watched.primary))
        put(stage, slice(200, COUNT))
        (sentinel,) = watched.sentinels
        wait_until(lambda: sentinel.ask("SENTINEL", "FAILOVER", SERVICE) == b"+OK\r\n")
        wait_until(lambda: watched.primary_port() == watched.replica.port)
        watched.primary.ask("REPLICAOF", "127.0.0.1", str(watched.replica.port))
        watched.primary.ask("CLIENT", "UNPAUSE")
        assert stage.flush() > 0
        assert watched.replica.ask("DBSIZE") == b":%d\r\n" % COUNT
        assert stored(watched) == COUNT
        assert cache.drain().degraded == frozenset()


def test_a_cluster_node_that_is_lost_while_rows_wait_costs_its_share_of_them():
    with running_cluster(3) as cluster, closing(behind(cluster)) as cache:
        stage = opened(cache)
        put(stage, slice(0, 100))
        stage.flush()
        for node in cluster.nodes:
            pause_writes(node)
        put(stage, slice(100, 200))
        wait_until(lambda: all(is_held_up(node) for node in cluster.nodes))
        put(stage, slice(200, COUNT))
        lost, *others = cluster.nodes
        lost.signal(signal.SIGKILL)
        for node in others:
            node.ask("CLIENT", "UNPAUSE")
        assert stage.flush() > 0
        tags = [b"%02x" % (digest[0] >> 2) for digest in stage.entries.digests(NAMES)]
        left = sum(cluster.owner(slot_of_tag(tag)) != 0 for tag in tags)
        assert 0 < left < COUNT
        assert stored(cluster) == left
        # Nobody but the thread has met the node that is gone.
        assert cache.drain().degraded == {"unavailable"}


def test_a_full_server_is_sent_one_insert_and_read_all_the_same(server, cache):
    stage = opened(cache)
    put(stage, slice(0, 100))
    stage.flush()
    server.ask("CONFIG", "SET", "maxmemory", "1")
    for start in range(100, 200, 10):
        put(stage, slice(start, start + 10))
    stage.flush()
    assert found_in(stage.entries) == 100
    assert cache.drain().errors == {"full": 1, "skipped": 9}


def test_a_forked_child_and_its_parent_both_go_on(server, cache):
    stage = opened(cache)
    pause_writes(server)
    put(stage, slice(0, 100))
    pid = os.fork()
    if pid == 0:  # the child: leave without pytest's own end
        is_right = False
        try:
            is_right = not threads()
            server.ask("CLIENT", "UNPAUSE")
            put(stage, slice(100, 200))
            is_right = is_right and stage.flush() > 0 and found_in(stage.entries) >= 100
        finally:
            os._exit(0 if is_right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert stage.flush() > 0
    assert stored(server) == 200
    assert cache.drain().degraded == frozenset()


def test_a_process_that_is_killed_leaves_whole_rows(server, cache):
    stage = opened(cache)
    pid = os.fork()
    if pid == 0:
        for start in range(0, COUNT, 10):
            put(stage, slice(start, start + 10))
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    known = stored(server)
    assert known <= COUNT
    put(stage)
    stage.flush()
    assert stored(server) == COUNT


def test_a_store_in_memory_has_a_queue_as_well():
    plain = Cache.connect("memory://", namespace="n")
    cache = Cache.from_config(plain.config.model_copy(update={"overlap_bytes": 1 << 20}))
    stage = opened(cache)
    assert stage.entries.ahead is None
    put(stage)
    assert stage.flush() > 0
    assert found_in(cache.keyspace(b"stage", SPECS)) == COUNT
