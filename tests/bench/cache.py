"""What the cache adds to a bare MGET and SET: `python -m tests.bench.cache`.

Ten batches of 1,024 entries of 1,536 bytes (384 float32) from a redis-server of its own on
loopback, in microseconds a row. The contestants take turns, and the best of their rounds counts:
what else runs on the machine makes a round slower, never faster.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import redis

from kvspark.cache.cache import Cache
from kvspark.cache.store.endpoint import Endpoint
from kvspark.cache.store.redis import RedisStore
from kvspark.spec import TensorSpec
from tests.redis_server import RedisAddress, running_redis

BATCHES, ROWS, WIDTH, ROUNDS = 10, 1_024, 384, 20


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


def measure(server: RedisAddress) -> dict[str, float]:
    """Microseconds a row by what was done."""
    cache = Cache.connect(server.url, namespace="bench", timeout_ms=5_000)
    space = cache.keyspace(b"stage", (TensorSpec("embedding", "float32", (WIDTH,)),))
    batches = [[b"row %d of %d" % (row, b) for row in range(ROWS)] for b in range(BATCHES)]
    digests = [space.digests(rows) for rows in batches]
    rows = np.random.default_rng(0).standard_normal((ROWS, WIDTH)).astype("<f4")
    keys = [space._keys.of(each) for each in digests]
    client = redis.Redis(port=server.port)
    store = RedisStore(Endpoint("127.0.0.1", server.port), timeout_s=5)
    for each in digests:
        space.insert(each, (rows,), cost_us=100)
    values = [[value or b"" for value in store.get_many(each)] for each in keys]
    entries = [list(zip(k, v, strict=True)) for k, v in zip(keys, values, strict=True)]

    def pipeline(b: int) -> None:
        pipe = client.pipeline(transaction=False)
        for key, value in entries[b]:
            pipe.set(key, value, px=1_209_600_000)
        pipe.execute()

    times = us_a_row(
        {
            "redis-py mget of 1,024": lambda b: client.mget(keys[b]),
            "store.get_many": lambda b: store.get_many(keys[b]),
            "lookup": lambda b: space.lookup(digests[b]),
            "of it: keys": lambda b: space._keys.of(digests[b]),
            "of it: decode and verify": lambda b: space._format.decode_many(values[b], digests[b]),
            "redis-py pipeline of SET PX": pipeline,
            "store.set_many": lambda b: store.set_many(entries[b], ttl_s=1_209_600),
            "insert": lambda b: space.insert(digests[b], (rows,), cost_us=100),
            "digests": lambda b: space.digests(batches[b]),
        }
    )
    if cache.drain().errors or not space.lookup(digests[-1]).found.all():
        raise SystemExit("something was not found; these times mean nothing")
    return times


def main() -> None:
    """Prints a line for each."""
    with running_redis() as server:
        for name, each in measure(server).items():
            print(f"{name:28} {each:6.2f} us/row")


if __name__ == "__main__":
    main()
