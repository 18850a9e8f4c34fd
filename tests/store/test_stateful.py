"""Any sequence of calls gives what a dictionary gives, on every store."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from kvspark.store.base import Store
from kvspark.store.cluster.cluster import ClusterStore
from kvspark.store.embedded.embedded import EmbeddedStore
from kvspark.store.endpoint import Endpoint
from kvspark.store.memory.memory import MemoryStore
from kvspark.store.redis.server import RedisStore
from tests.redis_cluster import running_cluster
from tests.store.calls import delete, get_many, ping, set_many

KEYS = st.integers(0, 8).map(lambda n: b"key %d" % n)
VALUES = st.binary(max_size=64) | st.integers(0, 100_000).map(bytes)

_RUNS = count()


class StoreMachine(RuleBasedStateMachine):
    """Keys of a run have a prefix of its own, so that a store may be used for many runs."""

    store: Store

    def __init__(self) -> None:
        super().__init__()
        self.model: dict[bytes, bytes] = {}
        self.prefix = b"%d/" % next(_RUNS)

    def key(self, name: bytes) -> bytes:
        return self.prefix + name

    @rule(keys=st.lists(KEYS, max_size=6))
    def get(self, keys):
        expected = [self.model.get(key) for key in keys]
        assert get_many(self.store, [self.key(key) for key in keys]) == expected

    @rule(
        entries=st.lists(st.tuples(KEYS, VALUES), max_size=6), ttl_s=st.sampled_from([None, 3600.0])
    )
    def set(self, entries, ttl_s):
        written = [(self.key(key), value) for key, value in entries]
        assert set_many(self.store, written, ttl_s=ttl_s) == len(entries)
        self.model.update(entries)

    @rule(keys=st.lists(KEYS, max_size=4))
    def delete(self, keys):
        gone = {key for key in keys if self.model.pop(key, None) is not None}
        assert delete(self.store, [self.key(key) for key in keys]) == len(gone)

    @rule()
    def ping(self):
        ping(self.store)


def check(store: Store) -> None:
    machine = type("Machine", (StoreMachine,), {"store": store})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=40, stateful_step_count=25, suppress_health_check=list(HealthCheck)
        ),
    )


def test_memory_is_a_dictionary():
    check(MemoryStore())


@pytest.mark.redis
def test_redis_is_a_dictionary(redis_server):
    check(RedisStore(Endpoint("127.0.0.1", redis_server.port)))


@pytest.mark.redis
def test_a_cluster_is_a_dictionary():
    with running_cluster(2) as cluster:
        seeds = [Endpoint("127.0.0.1", node.port) for node in cluster.nodes]
        check(ClusterStore(seeds))


@pytest.mark.redis
def test_an_embedded_store_is_a_dictionary(tmp_path):
    store = EmbeddedStore(tmp_path / "store")
    check(store)
    store.close()
