"""One server and a cluster of three nodes with the same entries: `make bench ARGS=cluster`.

Ten batches of 1,024 rows on loopback, in microseconds a row: look-ups of sealed entries to the tensor, of
768 and of 1,536 bytes, and the stores by themselves beside redis-py with values of 1,600 bytes. The
contestants take turns, and the best of their rounds counts. Client and servers share the machine's cores.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import redis
from rich.console import Console

from kvspark.cache.cache import Cache
from kvspark.config.sealing import KEY_ENV
from kvspark.spark.weights.allocator import keep_freed_memory
from kvspark.spec import TensorSpec
from kvspark.store.cluster.cluster import ClusterStore
from kvspark.store.endpoint import Endpoint
from kvspark.store.redis.server import RedisStore
from tests.redis_cluster import ClusterAddress, running_cluster
from tests.redis_server import RedisAddress, running_redis
from tests.sealing_keys import TEST_KEYS
from tests.store.calls import get_many, set_many

BATCHES, ROWS, ROUNDS = 10, 1_024, 20
SIZES = (768, 1_536)
"""Bytes of a tensor in a look-up."""

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
    one = RedisStore(Endpoint("127.0.0.1", server.port))
    seeds = [Endpoint("127.0.0.1", node.port) for node in cluster.nodes]
    many = ClusterStore(seeds)
    for keys in [*tagged, *untagged]:
        for store in (one, many):
            set_many(store, [(key, value) for key in keys], ttl_s=None)
    client = redis.RedisCluster("127.0.0.1", cluster.nodes[0].port)
    times = us_a_row(
        {
            "one server": lambda b: get_many(one, tagged[b]),
            "3 nodes": lambda b: get_many(many, tagged[b]),
            "3 nodes, keys without tags": lambda b: get_many(many, untagged[b]),
            "redis-py, with tags": lambda b: client.mget_nonatomic(tagged[b]),
            "redis-py, without tags": lambda b: client.mget_nonatomic(untagged[b]),
            "one server, SET PX": lambda b: set_many(
                one, [(k, value) for k in tagged[b]], ttl_s=60
            ),
            "3 nodes, SET PX": lambda b: set_many(many, [(k, value) for k in tagged[b]], ttl_s=60),
        }
    )
    if many.drain() or None in get_many(many, tagged[-1]):
        raise SystemExit("something was not found; these times mean nothing")
    return times


def look_ups(url: str, size_bytes: int) -> Callable[[int], object]:
    """Looks up the rows of a batch, all of which are there, in sealed entries."""
    cache = Cache.connect(url, namespace="bench", timeout_ms=5_000, sealed=True)
    width = size_bytes // 4
    space = cache.keyspace(b"%d" % size_bytes, (TensorSpec("embedding", "float32", (width,)),))
    rows = np.random.default_rng(0).standard_normal((ROWS, width)).astype("<f4")
    batches = [
        space.digests([b"row %d" % row for row in range(batch * ROWS, (batch + 1) * ROWS)])
        for batch in range(BATCHES)
    ]
    for digests in batches:
        space.insert(digests, (rows,), cost_us=100)
        if not space.lookup(digests).found.all():
            raise SystemExit("something was not found; these times mean nothing")
    return lambda batch: space.lookup(batches[batch])


def run(console: Console) -> dict[str, Any]:
    """All measurements, and whether the target is met; prints a line for each."""
    os.environ.setdefault(KEY_ENV, TEST_KEYS)
    keep_freed_memory()  # as a worker of Spark does
    ratios: dict[str, float] = {}
    with running_redis() as server, running_cluster(3) as nodes:
        times = measure(server, nodes)
        for size_bytes in SIZES:
            both = us_a_row(
                {
                    f"sealed, {size_bytes:,} bytes, {name}": look_ups(url, size_bytes)
                    for name, url in (("one server", server.url), ("3 nodes", nodes.url))
                }
            )
            alone, many = both.values()
            times |= both
            ratios[str(size_bytes)] = round(alone / many, 3)
    for name, each in times.items():
        console.print(f"{name:34} {each:6.2f} us/row")
    for size, ratio in ratios.items():
        console.print(
            f"3 nodes, look-ups of {int(size):,} bytes: {ratio:.2f} x one server's, at least {TARGET}"
        )
    return {
        "us_per_row": times,
        "look_ups_x_one_server": ratios,
        "target": TARGET,
        "targets_met": min(ratios.values()) >= TARGET,
    }
