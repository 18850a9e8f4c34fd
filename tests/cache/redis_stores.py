"""Stores on a server, by each of the ways to reach one."""

from __future__ import annotations

from kvspark.cache.store.endpoint import Endpoint
from kvspark.cache.store.redis.server import RedisStore
from tests.redis_server import RedisAddress

PATIENT_S = 5.0
"""For what answers in the end."""


def over_tcp(server: RedisAddress, **options) -> RedisStore:
    return RedisStore(Endpoint("127.0.0.1", server.port, **options), timeout_s=PATIENT_S)


def over_socket(server: RedisAddress, **options) -> RedisStore:
    return RedisStore(Endpoint(socket_path=server.socket_path, **options), timeout_s=PATIENT_S)
