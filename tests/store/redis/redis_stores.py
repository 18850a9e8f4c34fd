"""Stores on a server, by each of the ways to reach one."""

from __future__ import annotations

from kvspark.store.endpoint import Endpoint
from kvspark.store.redis.server import RedisStore
from tests.redis_server import RedisAddress


def over_tcp(server: RedisAddress, **options) -> RedisStore:
    return RedisStore(Endpoint("127.0.0.1", server.port, **options))


def over_socket(server: RedisAddress, **options) -> RedisStore:
    return RedisStore(Endpoint(socket_path=server.socket_path, **options))
