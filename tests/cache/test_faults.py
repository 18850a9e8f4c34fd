"""A store that fails in any way is a miss in time, counted by reason; each test shows its fault."""

from __future__ import annotations

import logging
import signal
import socket
import threading
import time
from dataclasses import dataclass, field

import numpy as np
import pytest

from kvspark.cache.cache import Cache, StageCache
from kvspark.cache.guard.guard import Guard
from kvspark.cache.stage.store_entries import StoreReader
from kvspark.errors import SecretError
from kvspark.spec import TensorSpec
from kvspark.store import breaker as breaker_module
from tests.cache.strategies import same_bits
from tests.faults.matrix import covers
from tests.redis_server import PATIENT_MS, RedisAddress, running_redis

pytestmark = pytest.mark.redis

SPECS = (TensorSpec("embedding", "float32", (16,)),)
TIMEOUT_S = 0.2
SLACK_S = 5.0
"""What a busy machine may add to a bound: what is waited for without one is ten times as long."""


@pytest.fixture
def server():
    with running_redis() as server:
        yield server


@dataclass
class Work:
    """A stage with rows in a cache, and what it costs to ask for them."""

    cache: Cache
    space: StageCache = field(init=False)
    rows: np.ndarray = field(init=False)
    digests: list[bytes] = field(init=False)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.space = self.cache.keyspace(b"stage", SPECS)
        self.rows = np.random.default_rng(1).standard_normal((100, 16)).astype("<f4")
        self.digests = self.space.digests([b"%d" % row for row in range(100)])

    def lookup(self) -> int:
        """How many rows were found; they are right or the test fails."""
        begun = time.monotonic()
        lookup = self.space.lookup(self.digests)
        self.seconds = time.monotonic() - begun
        (column,) = lookup.columns
        assert same_bits(self.rows[lookup.found], column)
        return int(lookup.found.sum())

    @property
    def guard(self) -> Guard:
        reader = self.space.reader
        assert isinstance(reader, StoreReader)
        return reader.guard

    def waits(self, timeout_s: float) -> None:
        """From now on a call has so long; what came before could take its time."""
        self.guard.timeout_s = timeout_s

    def insert(self) -> int:
        begun = time.monotonic()
        written = self.space.insert(self.digests, (self.rows,), cost_us=10)
        self.seconds = time.monotonic() - begun
        return written


def work(server: RedisAddress, **options) -> Work:
    """Work with a server that is waited for until `Work.waits` says otherwise."""
    options = {"namespace": "n", "timeout_ms": PATIENT_MS, **options}
    return Work(Cache.connect(server.url, **options))


@pytest.fixture
def warm(server):
    """Work whose rows are all in the store."""
    warm = work(server)
    assert warm.insert() > 0
    assert warm.lookup() == 100
    assert warm.cache.drain().errors == {}
    return warm


def test_a_refused_port_makes_misses_at_once_and_says_so(caplog):
    refused = Work(Cache.connect("redis://127.0.0.1:1", namespace="n", timeout_ms=PATIENT_MS))
    for _ in range(20):
        assert refused.lookup() == 0
        assert refused.insert() == 0
        assert refused.seconds < SLACK_S
    stats = refused.cache.drain()
    assert stats.degraded == {"unavailable"}
    assert stats.errors["unavailable"] == 3
    assert stats.errors["skipped"] == 37
    assert len(caplog.records) == 1
    refused.lookup()
    assert refused.cache.drain().degraded == {"unavailable"}


def test_a_hung_server_costs_three_deadlines_and_no_more(server, warm):
    warm.waits(TIMEOUT_S)
    server.signal(signal.SIGSTOP)
    spent = []
    for _ in range(10):
        assert warm.lookup() == 0
        spent.append(warm.seconds)
    server.signal(signal.SIGCONT)
    assert all(TIMEOUT_S * 0.9 < each < TIMEOUT_S + SLACK_S for each in spent[:3])
    assert sum(spent[3:]) < SLACK_S
    stats = warm.cache.drain()
    assert stats.errors == {"timeout": 3, "skipped": 7}
    assert stats.degraded == {"timeout"}


def test_a_server_that_comes_back_is_used_again_after_a_pause(server, warm, monkeypatch):
    warm.waits(TIMEOUT_S)
    server.signal(signal.SIGSTOP)
    for _ in range(3):
        warm.lookup()
    server.signal(signal.SIGCONT)
    warm.waits(PATIENT_MS / 1_000)
    assert warm.lookup() == 0
    later = time.monotonic() + breaker_module.PAUSE_S * (1 + breaker_module.JITTER)
    monkeypatch.setattr(warm.guard._link, "_clock", lambda: later)
    assert warm.lookup() == 100
    assert warm.insert() > 0


def test_a_server_that_is_killed_in_the_middle_makes_misses(server, warm):
    server.signal(signal.SIGKILL)
    for _ in range(5):
        assert warm.lookup() == 0
        assert warm.seconds < SLACK_S
        assert warm.insert() == 0
    assert warm.cache.drain().degraded == {"unavailable"}


def test_a_server_that_lost_its_entries_makes_misses_and_no_errors(server, warm):
    server.ask("FLUSHALL")
    assert warm.lookup() == 0
    assert warm.insert() > 0
    assert warm.lookup() == 100
    assert warm.cache.drain().errors == {}


@covers("F26")
def test_a_wrong_password_is_a_secret_error_at_the_start_and_misses_later(caplog, monkeypatch):
    monkeypatch.setenv("WRONG", "wrong")
    with running_redis("--requirepass", "right") as server:
        refused = work(server, password_env="WRONG")
        with pytest.raises(SecretError, match="password_env") as caught:
            refused.cache.check()
        assert "WRONG" not in str(caught.value).replace("WRONGPASS", "")
        assert refused.lookup() == 0
        connections = server_connections(server, "right")
        for _ in range(5):
            assert refused.lookup() == 0
            assert refused.insert() == 0
        # Not a single further try: a locked account would stay locked.
        assert server_connections(server, "right") == connections + 1
    stats = refused.cache.drain()
    assert stats.degraded == {"refused"}
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def server_connections(server: RedisAddress, password: str) -> int:
    """How many connections the server has taken; this asks over one more of them."""
    with socket.create_connection(("127.0.0.1", server.port)) as link:
        link.sendall(f"AUTH {password}\r\nINFO stats\r\nQUIT\r\n".encode())
        # All of it, however many pieces it comes in: after QUIT the server closes.
        said = link.makefile("rb").read().decode()
    return int(said.partition("total_connections_received:")[2].split()[0])


@covers("F26")
def test_a_user_who_may_not_write_still_reads(server, warm, monkeypatch):
    server.ask("ACL", "SETUSER", "reader", "on", ">pw", "~*", "+mget", "+hello", "+ping")
    monkeypatch.setenv("READER", "pw")
    reader = work(server, username="reader", password_env="READER")
    with pytest.raises(SecretError):
        reader.cache.check()
    for _ in range(4):
        assert reader.lookup() == 100
        assert reader.insert() == 0
    assert reader.cache.drain().errors == {"refused": 1, "skipped": 3}
    # One SET of the check and 100 of the first insert.
    assert b"cmdstat_set:calls=100," in server.ask("INFO", "commandstats")
    assert b"rejected_calls=101," in server.ask("INFO", "commandstats")


def test_a_full_server_takes_no_writes_and_still_reads(server, warm):
    server.ask("CONFIG", "SET", "maxmemory", "1")
    for _ in range(5):
        assert warm.insert() == 0
        assert warm.lookup() == 100
    stats = warm.cache.drain()
    assert stats.errors == {"full": 1, "skipped": 4}
    assert stats.degraded == {"full"}
    assert warm.cache.check() == "full"
    assert b"rejected_calls=" in server.ask("INFO", "commandstats")


def test_a_replica_takes_no_writes_and_still_reads(server, warm):
    server.ask("REPLICAOF", "127.0.0.1", "1")
    for _ in range(3):
        assert warm.insert() == 0
        assert warm.lookup() == 100
    assert warm.cache.drain().errors == {"full": 1, "skipped": 2}


def test_paused_writes_open_only_the_writes(server, warm):
    server.ask("CLIENT", "PAUSE", "60000", "WRITE")
    for _ in range(5):
        warm.waits(TIMEOUT_S)
        assert warm.insert() == 0
        warm.waits(PATIENT_MS / 1_000)
        assert warm.lookup() == 100
    assert warm.cache.drain().errors == {"timeout": 3, "skipped": 2}


def test_a_busy_script_makes_misses(server, warm):
    server.ask("CONFIG", "SET", "lua-time-limit", "10")
    script = threading.Thread(target=ask_forever, args=(server,), daemon=True)
    script.start()
    ends = time.monotonic() + PATIENT_MS / 1_000
    while not server.ask("PING").startswith(b"-BUSY"):
        assert time.monotonic() < ends
    assert warm.lookup() == 0
    assert warm.cache.drain().degraded == {"unavailable"}
    assert server.ask("SCRIPT", "KILL").startswith(b"+OK")
    script.join()
    assert warm.lookup() == 100


def ask_forever(server: RedisAddress) -> None:
    server.ask("EVAL", "while true do end", "0")


def test_eviction_makes_misses_and_no_errors():
    with running_redis("--maxmemory", "3mb", "--maxmemory-policy", "allkeys-lru") as server:
        evicted = work(server, timeout_ms=5_000)
        space = evicted.cache.keyspace(b"large", (TensorSpec("t", "uint8", (4_000,)),))
        digests = space.digests([b"%d" % row for row in range(1_000)])
        space.insert(digests, (np.zeros((1_000, 4_000), "u1"),), cost_us=0)
        found = space.lookup(digests).found.sum()
        assert 0 < found < 1_000
        assert b"evicted_keys:0\r" not in server.ask("INFO", "stats")
        assert evicted.cache.drain().errors == {}


@covers("B17")
def test_another_program_s_values_are_misses_counted_as_foreign(server, warm):
    keys = server.ask("KEYS", "k1s*")
    assert keys.startswith(b"*100\r\n")
    server.ask(
        "EVAL",
        "for _, k in ipairs(redis.call('KEYS', '*')) do redis.call('SET', k, 'pickle') end",
        "0",
    )
    assert warm.lookup() == 0
    assert warm.cache.drain().errors == {"foreign": 100}
    assert warm.insert() > 0
    assert warm.lookup() == 100


@covers("B17")
def test_values_swapped_between_keys_are_misses(server, warm):
    swap = """
    local keys = redis.call('KEYS', 'k1s*')
    local first = redis.call('GET', keys[1])
    redis.call('SET', keys[1], redis.call('GET', keys[2]))
    redis.call('SET', keys[2], first)
    """
    server.ask("EVAL", swap, "0")
    assert warm.lookup() == 98
    assert warm.cache.drain().errors == {"misplaced": 2}


def test_a_slow_first_window_does_not_lose_the_windows_that_came(server, warm):
    """What was found before the time ran out is used."""
    space = warm.cache.keyspace(b"many", SPECS)
    digests = space.digests([b"%d" % row for row in range(2_500)])
    rows = np.zeros((2_500, 16), "<f4")
    space.insert(digests, (rows,), cost_us=0)
    store = warm.cache.store
    warm.waits(10 * TIMEOUT_S)  # for the two windows as well
    answer, counts = store.read, list[int]()

    def hang_in_the_second(windows, deadline, **options):
        for part in answer(windows, deadline, **options):
            if sum(counts) <= 512 < sum(counts) + len(part):
                server.signal(signal.SIGSTOP)
            counts.append(len(part))
            yield part

    store.read = hang_in_the_second
    found = space.lookup(digests).found
    server.signal(signal.SIGCONT)
    # Two more windows had been asked for; the next one is when the first of them is there.
    assert 512 < sum(counts) <= 2_048
    assert found[: sum(counts)].all()
    assert found.sum() == sum(counts)
    assert warm.cache.drain().errors == {"timeout": 1}
