from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvspark.cache.cache import Cache, CacheStats
from kvspark.config.cache import CacheConfig
from kvspark.errors import CacheRequiredError, SecretError, UsageError
from kvspark.spec import TensorSpec
from kvspark.store.memory.memory import memory_store
from tests.cache.strategies import all_same_bits, columns
from tests.faults.matrix import covers
from tests.redis_server import PATIENT_MS
from tests.store.calls import get_many, scanned, set_many

EMBEDDING = (TensorSpec("embedding", "float32", (4,)),)


@pytest.fixture
def cache():
    return Cache.connect("memory://", namespace="n")


def rows_of(count: int, *, start: int = 0) -> list[bytes]:
    return [b"row %d" % row for row in range(start, start + count)]


def embeddings(count: int) -> tuple[np.ndarray]:
    return (np.random.default_rng(count).standard_normal((count, 4)).astype("<f4"),)


@given(drawn=columns(), codec=st.sampled_from(["raw", "zstd"]), data=st.data())
def test_what_was_inserted_is_found_bit_for_bit_and_nothing_else(drawn, codec, data):
    specs, cols, _ = drawn
    count = len(cols[0])
    space = Cache.connect("memory://", namespace="n").keyspace(b"stage", specs, codec=codec)
    digests = space.digests(rows_of(count))
    known = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    chosen = [row for row in range(count) if known[row]]
    kept = tuple(
        column[chosen] if isinstance(column, np.ndarray) else [column[row] for row in chosen]
        for column in cols
    )
    space.insert([digests[row] for row in chosen], kept, cost_us=5)
    lookup = space.lookup(digests)
    assert lookup.found.tolist() == known
    assert all_same_bits(kept, lookup.columns)


def test_lookup_of_nothing_and_in_an_empty_store(cache):
    space = cache.keyspace(b"stage", EMBEDDING)
    for rows in ([], rows_of(3)):
        lookup = space.lookup(space.digests(rows))
        assert lookup.found.tolist() == [False] * len(rows)
        assert isinstance(lookup.columns[0], np.ndarray)
        assert lookup.columns[0].shape == (0, 4)
        assert lookup.size_bytes == 0
    assert space.insert([], embeddings(0), cost_us=0) == 0
    assert cache.drain() == CacheStats()


def test_bytes_written_are_bytes_read(cache):
    space = cache.keyspace(b"stage", EMBEDDING)
    digests = space.digests(rows_of(10))
    written = space.insert(digests, embeddings(10), cost_us=0)
    assert written == space.lookup(digests).size_bytes == 10 * (56 + 16 + 8)


@pytest.mark.parametrize(
    ("namespace", "identity"), [("other", b"stage"), ("n", b"another stage"), ("other", b"x")]
)
def test_another_namespace_or_stage_finds_nothing(namespace, identity):
    url = "memory://shared-by-namespaces"
    space = Cache.connect(url, namespace="n", timeout_ms=PATIENT_MS).keyspace(b"stage", EMBEDDING)
    space.insert(space.digests(rows_of(5)), embeddings(5), cost_us=0)
    other = Cache.connect(url, namespace=namespace, timeout_ms=PATIENT_MS).keyspace(
        identity, EMBEDDING
    )
    assert not other.lookup(other.digests(rows_of(5))).found.any()


def test_another_secret_of_a_namespace_finds_nothing(monkeypatch):
    url, found = "memory://shared-by-secrets", {}
    monkeypatch.setenv("SECRET_1", "one")
    monkeypatch.setenv("SECRET_2", "two")
    for secret_env in (None, "SECRET_1", "SECRET_2"):
        space = Cache.connect(
            url, namespace="n", secret_env=secret_env, timeout_ms=PATIENT_MS
        ).keyspace(b"s", EMBEDDING)
        digests = space.digests(rows_of(5))
        found[secret_env] = space.lookup(digests).found.any()
        space.insert(digests, embeddings(5), cost_us=0)
    assert not any(found.values())


def test_the_same_configuration_opens_the_same_entries():
    cache = Cache.connect("memory://reopened", namespace="n")
    space = cache.keyspace(b"stage", EMBEDDING)
    space.insert(space.digests(rows_of(3)), embeddings(3), cost_us=0)
    again = Cache.from_config(CacheConfig.checked(**cache.config.model_dump()))
    space = again.keyspace(b"stage", EMBEDDING, codec="zstd")
    assert space.lookup(space.digests(rows_of(3))).found.all()


def test_a_stage_whose_tensors_differ_finds_nothing_and_counts_it(cache):
    space = cache.keyspace(b"stage", EMBEDDING)
    digests = space.digests(rows_of(2))
    space.insert(digests, embeddings(2), cost_us=0)
    other = cache.keyspace(b"stage", (TensorSpec("embedding", "int32", (4,)),))
    assert not other.lookup(digests).found.any()
    stats = cache.drain()
    assert stats.errors == {"unexpected": 2}
    assert stats.degraded == frozenset()


def test_a_damaged_entry_is_a_miss_that_is_counted_and_written_anew():
    store = memory_store("damaged")
    cache = Cache.connect("memory://damaged", namespace="n")
    space = cache.keyspace(b"stage", EMBEDDING)
    digests = space.digests(rows_of(3))
    space.insert(digests, embeddings(3), cost_us=0)
    keys = scanned(store, b"")
    (value,) = get_many(store, [keys[1]])
    assert value is not None
    set_many(store, [(keys[1], value[:-8] + bytes(8))], ttl_s=None)
    lookup = space.lookup(digests)
    assert lookup.found.tolist() == [True, False, True]
    assert cache.drain().errors == {"corrupt": 1}
    space.insert(digests, embeddings(3), cost_us=0)
    assert space.lookup(digests).found.all()


@covers("B12")
def test_rows_that_are_too_large_are_counted_and_not_stored(cache):
    specs = (TensorSpec("t", "uint8", (None,)),)
    space = cache.keyspace(b"stage", specs)
    digests = space.digests(rows_of(3))
    column = [np.zeros(10, "u1"), np.zeros(5 * 2**20, "u1"), np.zeros(20, "u1")]
    assert space.insert(digests, (column,), cost_us=0) > 0
    assert space.lookup(digests).found.tolist() == [True, False, True]
    assert cache.drain() == CacheStats({"too_large": 1}, frozenset())


def test_a_stage_of_fixed_size_that_is_too_large_is_never_stored(cache):
    space = cache.keyspace(b"stage", (TensorSpec("t", "float64", (2**20,)),))
    digests = space.digests(rows_of(1))
    assert space.insert(digests, (np.zeros((1, 2**20)),), cost_us=0) == 0
    assert not space.lookup(digests).found.any()
    assert cache.drain().errors == {"too_large": 1}


def test_drain_forgets(cache):
    cache.keyspace(b"s", (TensorSpec("t", "float64", (2**20,)),)).insert(
        [bytes(32)], (np.zeros((1, 2**20)),), cost_us=0
    )
    assert cache.drain().errors
    assert cache.drain() == CacheStats()


def test_entries_expire(monkeypatch):
    cache = Cache.connect("memory://expiring", namespace="n", ttl_s=100.0)
    space = cache.keyspace(b"stage", EMBEDDING)
    digests = space.digests(rows_of(1))
    space.insert(digests, embeddings(1), cost_us=0)
    store = memory_store("expiring")
    begun = store.clock()
    monkeypatch.setattr(store, "clock", lambda: begun + 89)
    assert space.lookup(digests).found.all()
    monkeypatch.setattr(store, "clock", lambda: begun + 111)
    assert not space.lookup(digests).found.any()


def test_a_cache_is_not_picklable_and_says_what_to_send(cache):
    for copied in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(UsageError, match=r"cache\.config"):
            copied(cache)


def test_the_configuration_crosses_to_another_process(cache):
    assert pickle.loads(pickle.dumps(cache.config)) == cache.config


def test_connect_checks_its_arguments():
    with pytest.raises(UsageError):
        Cache.connect("redis://:password@host", namespace="n")
    with pytest.raises(UsageError):
        Cache.connect("memory://", namespace="")
    with pytest.raises(UsageError):
        Cache.connect("memory://", namespace="n", ttl_s=-1)
    with pytest.raises(SecretError):
        Cache.connect("memory://", namespace="n", secret_file="/nowhere/secret")


def test_keyspace_checks_its_arguments(cache):
    with pytest.raises(UsageError, match="codec"):
        cache.keyspace(b"s", EMBEDDING, codec="gzip")
    with pytest.raises(UsageError, match="text"):
        cache.keyspace(b"s", (TensorSpec("text", "string"),))


def test_columns_of_another_stage_are_a_usage_error(cache):
    space = cache.keyspace(b"s", EMBEDDING)
    with pytest.raises(UsageError, match="embedding"):
        space.insert([bytes(32)], (np.zeros((1, 4)),), cost_us=0)


def test_a_healthy_store_passes_the_check(cache):
    assert cache.check() is None


def test_a_store_that_is_not_there_is_told_by_the_check_or_refused():
    assert Cache.connect("redis://127.0.0.1:1", namespace="n").check() == "unavailable"
    with pytest.raises(CacheRequiredError, match=r"127\.0\.0\.1:1"):
        Cache.connect("redis://127.0.0.1:1", namespace="n", required=True).check()


def test_a_closed_cache_opens_again(cache):
    cache.close()
    cache.close()
    assert cache.check() is None
