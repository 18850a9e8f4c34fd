"""A warm lifts what a namespace has in the cold tier, within memory, and brings back nothing erased."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from kvspark.cache.cache import Cache
from kvspark.cache.key.key import namespace_key, namespace_prefix
from kvspark.cache.namespace.warm import Warm
from kvspark.cache.stage.admission import entry_memory_bytes
from kvspark.config.cache import CacheConfig
from kvspark.errors import CacheRequiredError, UsageError
from kvspark.spec import TensorSpec
from kvspark.store.files.cold import ColdStore
from kvspark.store.opening.url import cold_folder, open_store
from tests.redis_cluster import wait_until
from tests.redis_server import RedisAddress, running_redis
from tests.store.calls import delete, scanned

pytestmark = pytest.mark.redis

SPECS = (TensorSpec("embedding", "float32", (64,)),)
ROWS = 500
STAGE = b"s" * 32 + b"place"
LARGE = 2**30


@pytest.fixture(scope="module")
def server() -> Iterator[RedisAddress]:
    with running_redis() as running:
        yield running


@pytest.fixture
def config(server, tmp_path) -> CacheConfig:
    server.ask("FLUSHALL")
    cold = (tmp_path / "cold").as_uri()
    return CacheConfig.checked(
        url=server.url, namespace="n", timeout_ms=5_000, sealed=False, cold=cold
    )


def filled(config: CacheConfig, rows: range = range(ROWS)) -> np.ndarray:
    """Inserts rows, into both tiers; their values."""
    values = np.random.default_rng(0).normal(size=(ROWS, 64)).astype("<f4")[rows.start : rows.stop]
    assert config.cold is not None
    segments = len(cold_folder(config.cold).names())
    with closing(Cache.from_config(config)) as cache:
        space = cache.keyspace(STAGE, SPECS)
        space.insert(space.digests([b"%d" % row for row in rows]), (values,), cost_us=1)
    # Closing waits for the segment for a while only, and a machine may be busy.
    wait_until(lambda: len(cold_folder(config.cold or "").names()) > segments)
    return values


def in_the_server(config: CacheConfig) -> tuple[np.ndarray, np.ndarray]:
    """Which of ROWS the server alone has, and what."""
    with closing(Cache.from_config(config.model_copy(update={"cold": None}))) as cache:
        space = cache.keyspace(STAGE, SPECS)
        lookup = space.lookup(space.digests([b"%d" % row for row in range(ROWS)]))
    return lookup.found, np.asarray(lookup.columns[0])


def warmed(config: CacheConfig, max_bytes: int = LARGE):
    with closing(Cache.from_config(config)) as cache, closing(cache.warm()) as warm:
        return warm.lift(max_bytes)


def test_what_a_server_has_lost_is_lifted_bit_for_bit_and_lives_no_longer(config, server):
    values = filled(config)
    server.ask("FLUSHALL")
    assert not in_the_server(config)[0].any()
    done = warmed(config)
    assert (done.entries, done.present, done.is_full) == (ROWS, 0, False)
    found, there = in_the_server(config)
    assert found.all()
    assert there.tobytes() == values.tobytes()
    key = server.ask("RANDOMKEY").split(b"\r\n", 1)[1].removesuffix(b"\r\n")
    assert len(key) == 27
    assert server.info("stats", "expired_keys") == 0
    keyspace = server.ask("INFO", "keyspace").decode()
    assert f"keys={ROWS},expires={ROWS}" in keyspace
    average_ms = int(keyspace.partition("avg_ttl=")[2].split(",")[0].split("\r")[0])
    assert average_ms <= 1.1 * config.ttl_s * 1_000


def test_what_is_there_stays_and_is_not_written_again(config, server):
    filled(config)
    before = server.count("set")
    done = warmed(config)
    assert (done.entries, done.present) == (0, ROWS)
    assert server.count("set") == before


def test_no_more_is_lifted_than_there_is_room_for_the_newest_first(config, server):
    filled(config, range(400))
    filled(config, range(400, ROWS))
    server.ask("FLUSHALL")
    # In clear: without nonce and tag.
    one = entry_memory_bytes(4 * 64 - 20)
    used = server.used_bytes()
    done = warmed(config, 150 * one + 1)
    assert done.entries == pytest.approx(150, abs=1)
    assert done.is_full
    found, _ = in_the_server(config)
    assert found[400:].all()
    assert found.sum() == done.entries
    # The table of keys itself grows by doubling.
    assert server.used_bytes() - used < 1.3 * done.memory_bytes + 16_384


def test_what_was_deleted_and_what_is_another_namespace_s_is_not_lifted(config, server):
    filled(config)
    filled(config.model_copy(update={"namespace": "other"}))
    prefix = namespace_prefix(namespace_key("n", None))
    assert config.cold is not None
    cold = ColdStore(cold_folder(config.cold))
    keys = scanned(cold, prefix)
    assert len(keys) == ROWS
    delete(cold, keys[:100])
    cold.close()
    server.ask("FLUSHALL")
    assert warmed(config).entries == ROWS - 100
    assert in_the_server(config)[0].sum() == ROWS - 100


def test_where_nothing_is_left_to_lift_the_server_is_not_called_full(config, server):
    filled(config.model_copy(update={"namespace": "other"}))
    server.ask("FLUSHALL")
    done = warmed(config)
    assert (done.entries, done.present, done.is_full) == (0, 0, False)


def test_an_erased_row_is_not_lifted(config, server):
    filled(config)
    with closing(Cache.from_config(config)) as cache:
        digests = cache.keyspace(STAGE, SPECS).digests([b"7", b"8"])
        # A purge that died after it had said what may not come back.
        assert cache.tombstones.add(digests)
    server.ask("FLUSHALL")
    warmed(config)
    found, _ = in_the_server(config)
    assert np.flatnonzero(~found).tolist() == [7, 8]


def test_a_purge_that_begins_ends_a_warm(config, server, monkeypatch):
    monkeypatch.setattr("kvspark.cache.stage.tombstones.REFRESH_S", 0.0)
    filled(config)
    server.ask("FLUSHALL")
    assert config.cold is not None
    store = open_store(config.model_copy(update={"cold": None}))
    with closing(Cache.from_config(config)) as cache, closing(store):
        warm = Warm(store, cold_folder(config.cold), cache.key, cache.tombstones)
        asked = store.read

        def purging(windows, deadline):
            with closing(Cache.from_config(config)) as other:
                assert other.tombstones.add(other.keyspace(STAGE, SPECS).digests([b"7"]))
            return asked(windows, deadline)

        monkeypatch.setattr(store, "read", purging)
        with pytest.raises(CacheRequiredError, match="a purge is under way"):
            warm.lift(LARGE)
    assert in_the_server(config)[0].sum() < 100


def test_a_server_that_is_full_ends_a_warm(config):
    filled(config)
    options = ("--maxmemory", "1", "--maxmemory-policy", "noeviction")
    with running_redis(*options) as full:
        done = warmed(config.model_copy(update={"url": full.url}))
    assert (done.entries, done.is_full) == (0, True)


def test_room_is_what_maxmemory_leaves(config):
    with running_redis("--maxmemory", "64mb") as server:
        limited = config.model_copy(update={"url": server.url})
        with closing(Cache.from_config(limited)) as cache, closing(cache.warm()) as warm:
            room = warm.room_bytes()
        assert room is not None
        assert 50 * 2**20 < room < 0.9 * 64 * 2**20
    with closing(Cache.from_config(config)) as cache, closing(cache.warm()) as warm:
        assert warm.room_bytes() is None


def test_a_damaged_segment_is_left_out_and_a_store_that_is_away_is_told(config, tmp_path):
    filled(config)
    (tmp_path / "cold/00000000000000000001-00000000.kvseg").write_bytes(b"cut")
    assert warmed(config).present == ROWS
    with pytest.raises(CacheRequiredError):
        warmed(config.model_copy(update={"url": "redis://127.0.0.1:1"}))


def test_without_a_cold_tier_there_is_nothing_to_lift(config):
    with (
        closing(Cache.from_config(config.model_copy(update={"cold": None}))) as cache,
        pytest.raises(UsageError, match=r"cache\.cold"),
    ):
        cache.warm()


def test_a_segment_that_goes_meanwhile_is_told(config, tmp_path: Path, monkeypatch):
    filled(config)
    monkeypatch.setattr("kvspark.store.files.segment_folder.Folder.names", lambda _: ["gone.kvseg"])
    with pytest.raises(CacheRequiredError, match="the cold tier cannot be read"):
        warmed(config)
