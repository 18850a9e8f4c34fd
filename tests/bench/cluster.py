"""One server and a cluster of three nodes with the same entries: `make bench ARGS=cluster`.

Ten batches of 1,024 values of 1,600 bytes on loopback, in microseconds a row. The contestants take
turns, and the best of their rounds counts. Client and servers share the machine's cores.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import redis
from rich.console import Console

from kvspark.cache.store.endpoint import Endpoint
from kvspark.cache.store.redis.cluster import ClusterStore
from kvspark.cache.store.redis.server import RedisStore
from tests.redis_cluster import ClusterAddress, running_cluster
from tests.redis_server import RedisAddress, running_redis

BATCHES, ROWS, ROUNDS = 10, 1_024, 20

TARGET = 0.7
"""The least that a cluster's rate of look-ups is, as a multiple of one server's."""


def us_a_row(works: dict[str, Callable[[int], object]]) -> dict[str, float]:
    """The best time of each, over all batches, after one round to warm up."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(ROUNDS + 1):
        for name, work in works.items():
            begun = time.perf_counter()
            for batch in range(BATCHES):
                work(batch)
            times[name].append(time.perf_counter() - begun)
    return {name: min(each[1:]) / (BATCHES * ROWS) * 1e6 for name, each in times.items()}


def measure(server: RedisAddress, cluster: ClusterAddress) -> dict[str, float]:
    """The same entries on one server and on a cluster, microseconds a row."""
    rng = np.random.default_rng(1)
    batches = [[rng.bytes(16) for _ in range(ROWS)] for _ in range(BATCHES)]
    tagged = [[b"k1s....{%02x}" % (key[0] >> 2) + key for key in keys] for keys in batches]
    untagged = [[b"k1s....." + key.replace(b"{", b"-") for key in keys] for keys in batches]
    value = rng.bytes(1_600)
    one = RedisStore(Endpoint("127.0.0.1", server.port), timeout_s=5)
    seeds = [Endpoint("127.0.0.1", node.port) for node in cluster.nodes]
    many = ClusterStore(seeds, timeout_s=5)
    for keys in [*tagged, *untagged]:
        for store in (one, many):
            store.set_many([(key, value) for key in keys], ttl_s=None)
    client = redis.RedisCluster("127.0.0.1", cluster.nodes[0].port)
    times = us_a_row(
        {
            "one server": lambda b: one.get_many(tagged[b]),
            "3 nodes": lambda b: many.get_many(tagged[b]),
            "3 nodes, keys without tags": lambda b: many.get_many(untagged[b]),
            "redis-py, with tags": lambda b: client.mget_nonatomic(tagged[b]),
            "redis-py, without tags": lambda b: client.mget_nonatomic(untagged[b]),
            "one server, SET PX": lambda b: one.set_many([(k, value) for k in tagged[b]], ttl_s=60),
            "3 nodes, SET PX": lambda b: many.set_many([(k, value) for k in tagged[b]], ttl_s=60),
        }
    )
    if many.drain() or None in many.get_many(tagged[-1]):
        raise SystemExit("something was not found; these times mean nothing")
    return times


def run(console: Console) -> dict[str, Any]:
    """All measurements, and whether the target is met; prints a line for each."""
    with running_redis() as server, running_cluster(3) as nodes:
        times = measure(server, nodes)
    for name, each in times.items():
        alone = times["one server, SET PX" if "SET" in name else "one server"]
        console.print(f"{name:28} {each:6.2f} us/row {alone / each:5.2f} x one server's speed")
    ratio = times["one server"] / times["3 nodes"]
    return {
        "us_per_row": times,
        "look_ups_x_one_server": round(ratio, 3),
        "target": TARGET,
        "targets_met": ratio >= TARGET,
    }
