"""What the cache adds to a bare MGET and SET: `python -m tests.bench.cache`.

Ten batches of 1,024 entries of 1,536 bytes (384 float32) from a redis-server of its own on
loopback; the median of several rounds, in microseconds a row.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import redis

from kvspark.cache.cache import Cache
from kvspark.cache.store.endpoint import Endpoint
from kvspark.cache.store.redis import RedisStore
from kvspark.spec import TensorSpec
from tests.redis_server import RedisAddress, running_redis

BATCHES, ROWS, WIDTH, ROUNDS = 10, 1_024, 384, 9


def us_a_row(work: Callable[[int], object]) -> float:
    """The median time of a round over all batches, after one round to warm up."""
    times = []
    for round_ in range(ROUNDS + 1):
        begun = time.perf_counter()
        for batch in range(BATCHES):
            work(batch)
        if round_:
            times.append(time.perf_counter() - begun)
    return statistics.median(times) / (BATCHES * ROWS) * 1e6


def measure(server: RedisAddress) -> dict[str, float]:
    """Microseconds a row by what was done."""
    cache = Cache.connect(server.url, namespace="bench", timeout_ms=5_000)
    space = cache.keyspace(b"stage", (TensorSpec("embedding", "float32", (WIDTH,)),))
    batches = [[b"row %d of %d" % (row, b) for row in range(ROWS)] for b in range(BATCHES)]
    digests = [space.digests(rows) for rows in batches]
    rows = np.random.default_rng(0).standard_normal((ROWS, WIDTH)).astype("<f4")
    times = {
        "digests": us_a_row(lambda b: space.digests(batches[b])),
        "insert": us_a_row(lambda b: space.insert(digests[b], (rows,), cost_us=100)),
    }
    keys = [space._keys.of(each) for each in digests]
    client = redis.Redis(port=server.port)
    store = RedisStore(Endpoint("127.0.0.1", server.port), timeout_s=5)
    entries = [list(zip(each, store.get_many(each), strict=True)) for each in keys]

    def pipeline(b: int) -> None:
        pipe = client.pipeline(transaction=False)
        for key, value in entries[b]:
            pipe.set(key, value or b"", px=1_209_600_000)
        pipe.execute()

    times["redis-py pipeline of SET PX"] = us_a_row(pipeline)
    times["store.set_many"] = us_a_row(
        lambda b: store.set_many([(k, v or b"") for k, v in entries[b]], ttl_s=1_209_600)
    )
    times["redis-py mget of 1,024"] = us_a_row(lambda b: client.mget(keys[b]))
    times["store.get_many"] = us_a_row(lambda b: store.get_many(keys[b]))
    times["lookup"] = us_a_row(lambda b: space.lookup(digests[b]))
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
