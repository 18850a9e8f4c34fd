"""A row is written when it is seen for the second time, whatever else happens."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvspark.cache.admission import Threshold, admitted, entry_memory_bytes
from kvspark.cache.cache import Cache
from kvspark.cache.doorkeeper import Doorkeeper
from kvspark.cache.entries import Entries
from kvspark.cache.guard import Guard
from kvspark.cache.key import TAGS, namespace_key, sighting_keys
from kvspark.cache.sightings import RowSightings
from kvspark.cache.store.memory import MemoryStore
from kvspark.cache.store.memory_sightings import MemorySightings
from kvspark.cache.store.redis.slots import slot_of_tag
from kvspark.config.cache import CacheConfig
from kvspark.spec import TensorSpec
from tests.cache.strategies import same_bits
from tests.redis_cluster import running_cluster
from tests.redis_server import PATIENT_MS, RedisAddress, running_redis

WIDTH = 384
EMBEDDING = (TensorSpec("embedding", "float32", (WIDTH,)),)
TABLES_BYTES = 2**20
VALUES = np.random.default_rng(5).standard_normal((997, WIDTH)).astype("<f4")


@dataclass
class Worker:
    """A process with a cache, which computes what it does not find."""

    url: str
    doorkeeper_bytes: int | None = TABLES_BYTES
    share: float = 1.0
    namespace: str = "skewed"
    cache: Cache = field(init=False)
    entries: Entries = field(init=False)
    turned_away: int = 0

    def __post_init__(self) -> None:
        config = CacheConfig.checked(
            url=self.url,
            namespace=self.namespace,
            timeout_ms=PATIENT_MS,
            sealed=False,
            doorkeeper_bytes=self.doorkeeper_bytes,
            lease_from_ms=0,
        )
        self.cache = Cache.from_config(config)
        self.entries = admitted(self.cache.keyspace(b"s", EMBEDDING), self.share, self._away)

    def _away(self, rows: int) -> None:
        self.turned_away += rows

    def digests(self, rows: list[int]) -> list[bytes]:
        return self.entries.digests([b"row %d" % row for row in rows])

    def found(self, rows: list[int]) -> list[int]:
        """Those of `rows` that are stored, whose values are right or the test fails."""
        lookup = self.entries.lookup(self.digests(rows))
        kept = [rows[i] for i in np.flatnonzero(lookup.found)]
        assert same_bits(values(kept), np.asarray(lookup.columns[0]))
        return kept

    def compute(self, rows: list[int]) -> int:
        """Bytes that were written of `rows`, which are computed whether or not they are stored."""
        return self.entries.insert(self.digests(rows), (values(rows),), cost_us=0)

    def score(self, rows: list[int]) -> int:
        """How many of `rows` were found; the others are computed."""
        found = self.found(rows)
        missing = sorted(set(rows) - set(found))
        if missing:
            self.compute(missing)
        return len(found)


def values(rows: list[int]) -> np.ndarray:
    """What the model gives for `rows`."""
    return VALUES[[row % len(VALUES) for row in rows]]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisAddress]:
    with running_redis() as running:
        yield running


@pytest.fixture
def own_server(server) -> RedisAddress:
    """The server, with nothing in it."""
    server.ask("FLUSHALL")
    return server


@pytest.mark.redis
def test_the_first_sighting_is_turned_away_the_second_is_written_the_third_is_a_hit(own_server):
    rows = list(range(300))
    hits = []
    for _ in range(3):
        worker = Worker(own_server.url)  # of another night
        hits.append(worker.score(rows))
        hits.append(worker.turned_away)
        assert worker.cache.drain().errors == {}
    assert hits == [0, 300, 0, 0, 300, 0]


@settings(max_examples=40)
@given(calls=st.lists(st.sets(st.integers(0, 25), min_size=1), max_size=8))
def test_a_row_is_stored_if_and_only_if_it_was_computed_twice(calls):
    worker = Worker("memory://")
    times: Counter[int] = Counter()
    for call in calls:
        worker.compute(sorted(call))
        times.update(call)
    assert set(worker.found(list(range(26)))) == {row for row, n in times.items() if n > 1}
    assert worker.turned_away == len(times)


def test_beside_a_threshold_it_lets_in_what_was_seen_and_every_row_is_looked_up():
    worker, rows = Worker("memory://", share=0.5), list(range(400))
    worker.compute(rows)
    below = np.flatnonzero(Threshold(0.5)(worker.digests(rows))).tolist()
    assert worker.found(rows) == below
    assert worker.turned_away == 400 - len(below)
    assert 100 < len(below) < 300
    worker.compute(rows[:200])
    assert worker.found(rows) == sorted({*below, *rows[:200]})


def test_a_new_time_has_forgotten_what_was_seen():
    now_s, lock = [5_000.0], threading.Lock()
    sightings = RowSightings(
        Guard(MemoryStore(), timeout_s=5.0),
        MemorySightings({}, lambda: lock, now_s=lambda: now_s[0]),
        namespace_key("n", None),
        size_bytes=TABLES_BYTES,
        window_s=1_000.0,
        now_s=lambda: now_s[0],
    )
    digests = Worker("memory://").digests(list(range(50)))
    told = []
    for now_s[0] in (5_000.0, 5_999.0, 6_000.0, 6_000.0):
        told.append(sightings.seen(digests).sum())
    assert told == [0, 50, 0, 50]


def test_what_came_last_is_remembered_when_there_is_less_room_than_rows():
    worker = Worker("memory://", doorkeeper_bytes=2**16)
    places = TAGS * (2**16 // TAGS - 64)
    sightings = worker.entries.sightings()
    assert sightings is not None
    digests = worker.digests(list(range(4 * places)))
    assert sightings.seen(digests).mean() < 0.01
    # exp(-1/4) of as many rows as a quarter of the places share theirs with none of the others.
    assert sightings.seen(digests[-places // 4 :]).mean() == pytest.approx(0.78, abs=0.02)
    assert sightings.seen(digests[:places]).mean() < 0.1


@pytest.mark.redis
def test_tables_take_the_memory_that_was_given(own_server):
    worker = Worker(own_server.url, doorkeeper_bytes=2**22)
    worker.score([])
    before = own_server.used_bytes()
    for start in range(0, 20_000, 4_000):
        worker.compute(list(range(start, start + 4_000)))
    tables = own_server.used_bytes() - before
    assert worker.turned_away > 19_900
    assert tables == pytest.approx(2**22, rel=0.05)
    (key, *_) = sighting_keys(namespace_key("skewed", None), 0)
    assert own_server.ask("KEYS", key[:3].decode() + "*").count(b"k1d") == TAGS


@pytest.mark.redis
def test_of_two_workers_that_see_rows_at_once_one_at_least_comes_second(own_server):
    rows = list(range(500))
    workers = [Worker(own_server.url) for _ in range(2)]
    gate = threading.Barrier(2)

    def work(worker: Worker) -> None:
        gate.wait()
        for start in range(0, 500, 20):
            worker.compute(rows[start : start + 20])

    threads = [threading.Thread(target=work, args=(worker,)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Each row was new to one of them, whoever was first, and the other has written it.
    assert sum(worker.turned_away for worker in workers) == 500
    assert Worker(own_server.url).found(rows) == rows


@pytest.mark.redis
def test_a_row_that_is_claimed_is_seen_once_and_leased_from_the_second_time_on(own_server):
    first, second, third = (Worker(own_server.url) for _ in range(3))
    offered = [worker.entries.leases() for worker in (first, second, third)]
    leases = [each for each in offered if each is not None]
    rows, digests = [1, 2, 3], first.digests([1, 2, 3])
    assert len(leases) == 3
    assert leases[0].claim(digests, ttl_s=60).all()
    assert own_server.ask("KEYS", "k1l*") == b"*0\r\n"
    assert leases[1].claim(digests, ttl_s=60).all()
    assert not leases[2].claim(digests, ttl_s=60).any()
    assert first.compute(rows) == 0
    assert second.compute(rows) > 0
    assert third.found(rows) == rows


def test_claims_that_are_forgotten_cost_an_early_entry(monkeypatch):
    monkeypatch.setattr("kvspark.cache.doorkeeper._CLAIMED", 10)
    worker = Worker("memory://")
    sightings = worker.entries.sightings()
    assert sightings is not None
    door = Doorkeeper(Threshold(0.0), sightings)
    digests = worker.digests(list(range(40)))
    for start in range(0, 40, 8):
        assert not door.would_let_in(digests[start : start + 8]).any()
    assert door.lets_in(digests).sum() == 32


# ------------------------------------------------------------------ trouble


@pytest.mark.redis
def test_a_store_that_is_away_takes_nothing_and_nothing_fails():
    with running_redis() as server:
        worker = Worker(server.url)
        worker.compute([1, 2])
        server.signal(signal.SIGKILL)
        assert worker.compute([1, 2]) == 0
    assert worker.cache.drain().errors["unavailable"] >= 1


@pytest.mark.redis
@pytest.mark.parametrize("how", ["no permission", "another type", "no such command"])
def test_where_sightings_are_refused_every_row_is_let_in(how):
    options = ["--rename-command", "BITFIELD", ""] if how == "no such command" else []
    with running_redis(*options) as server:
        worker = Worker(server.url)
        if how == "no permission":
            server.ask("ACL", "SETUSER", "default", "-bitfield")
        elif how == "another type":
            worker.compute(list(range(400)))  # so that all tables are there
            script = "for _, k in ipairs(redis.call('KEYS', 'k1d*')) do redis.call('DEL', k); redis.call('LPUSH', k, 1) end"
            server.ask("EVAL", script, "0")
        worker.compute([1, 2])
        assert worker.found([1, 2]) == [1, 2]
        worker.compute([3])
        assert worker.found([3]) == [3]
        assert worker.cache.drain().errors == {"refused": 1}


@pytest.mark.redis
def test_a_server_that_is_full_and_evicts_nothing_fails_nothing():
    with running_redis("--maxmemory", "1", "--maxmemory-policy", "noeviction") as server:
        worker = Worker(server.url)
        assert worker.compute([1, 2]) == 0
        assert worker.compute([1, 2]) == 0
        assert worker.found([1, 2]) == []
    assert worker.cache.drain().errors["full"] == 1


@pytest.mark.redis
def test_a_node_that_is_gone_costs_the_rows_whose_entries_it_would_have_had():
    rows = list(range(300))
    with running_cluster() as cluster:
        worker = Worker(cluster.url)
        worker.compute(rows)
        cluster.nodes[1].signal(signal.SIGKILL)
        worker.compute(rows)
        slots = [slot_of_tag(b"%02x" % (each[0] >> 2)) for each in worker.digests(rows)]
        there = [row for row, slot in zip(rows, slots, strict=True) if cluster.owner(slot) != 1]
        assert worker.found(rows) == there
    assert 150 < len(there) < 250
    assert worker.turned_away == 300 + 300 - len(there)


# ------------------------------------------------------------------ skewed reuse

POPULAR = 4_000
ROOM = 1_000
WINDOW = 500
WINDOWS = 80
ONCE = 0.6
"""Of the look-ups."""


def skewed_windows() -> list[list[int]]:
    """Rows by the window: some of them popular, as often as one over their rank, the others never again."""
    rng = np.random.default_rng(11)
    chances = 1 / np.arange(1, POPULAR + 1)
    fresh = iter(range(POPULAR, 10**9))
    windows = []
    for _ in range(WINDOWS):
        again = rng.choice(POPULAR, size=int(WINDOW * (1 - ONCE)), p=chances / chances.sum())
        once = [next(fresh) for _ in range(int(WINDOW * ONCE))]
        windows.append(sorted({*again.tolist(), *once}))
    return windows


def scored(worker: Worker) -> tuple[float, int]:
    """The hit rate over all windows, and rows that were written."""
    hits = asked = 0
    for window in skewed_windows():
        hits += worker.score(window)
        asked += len(window)
    return hits / asked, asked - hits - worker.turned_away


@pytest.mark.redis
@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu"])
def test_of_skewed_rows_more_hit_and_few_are_written(policy):
    with running_redis("--maxmemory-policy", policy) as server:
        room = ROOM * entry_memory_bytes(WIDTH * 4)
        server.ask("CONFIG", "SET", "maxmemory", str(server.used_bytes() + room))
        hit_rate, written = scored(Worker(server.url, doorkeeper_bytes=None))
        evicted = server.info("stats", "evicted_keys")
        server.ask("FLUSHALL")
        # In the same memory: the tables take the room of entries.
        worker = Worker(server.url, doorkeeper_bytes=2**16)
        hit_rate_with, written_with = scored(worker)
        evicted_with = server.info("stats", "evicted_keys") - evicted
        assert not worker.cache.drain().errors
    # The fault fired: without it what comes once pushed out what comes again.
    assert evicted > 10_000
    assert hit_rate_with > hit_rate
    assert written_with < written / 3
    assert evicted_with < evicted / 3
