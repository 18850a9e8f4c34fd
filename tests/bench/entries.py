"""What a hit and an insert cost beside a bare MGET and MSET: `make bench ARGS=entries`.

Values of 768 bytes and of 64 KB from a redis-server of its own on loopback, by one client: everything
that a hit needs, from digests to the tensor, sealed (AES-256-GCM) and in clear, as a multiple of the
rate of redis-py's own `mget` and `mset` of the same values. Then what the server's memory holds for
an entry. The contestants take turns, and the best of their rounds counts: what else runs on the
machine makes a round slower, never faster.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, final

import numpy as np
import redis
from rich.console import Console
from rich.table import Table

from kvspark.cache.cache import Cache
from kvspark.cache.entry.format import Decoded
from kvspark.cache.entry.reader import Decoding
from kvspark.cache.key.key import KEY_BYTES, StageKeys
from kvspark.cache.stage.store_entries import StoreReader
from kvspark.config.sealing import KEY_ENV
from kvspark.spark.weights.allocator import keep_freed_memory
from kvspark.spec import Rows, TensorSpec
from kvspark.store.value_table import Part
from tests.redis_server import RedisAddress, running_redis
from tests.sealing_keys import TEST_KEYS
from tests.store.calls import get_many, set_many

ROUNDS = 100
SIZES = {768: 1_024, 65_536: 64}
"""Bytes of a value, and rows of a batch of them: not more than one write takes."""

READ, WRITE = "get_many", "set_many"
TARGETS = {
    (READ, 768, "sealed"): 0.35,
    (READ, 65_536, "sealed"): 0.8,
    (READ, 768, "in clear"): 0.7,
    (READ, 65_536, "in clear"): 0.9,
    (WRITE, 768, "sealed"): 0.4,
    (WRITE, 65_536, "sealed"): 0.8,
    (WRITE, 768, "in clear"): 0.4,
    (WRITE, 65_536, "in clear"): 0.8,
}
"""The least that our rate is, as a multiple of redis-py's."""

MEMORY_TARGETS = {1_536: 1.30, 3_072: 1.25}
"""The most that the server's memory is, time to live included, as a multiple of the value."""


@final
@dataclass(frozen=True, slots=True)
class Line:
    """One comparison."""

    name: str
    us_per_row: float
    ratio: float | None = None
    target: float | None = None

    @property
    def is_missed(self) -> bool:
        return self.ratio is not None and self.target is not None and self.ratio < self.target


def us_a_row(works: dict[str, Callable[[], object]], rows: int) -> dict[str, float]:
    """The best time of each, after one round to warm up."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(ROUNDS + 1):
        for name, work in works.items():
            begun = time.perf_counter()
            work()
            times[name].append(time.perf_counter() - begun)
    return {name: min(each[1:]) / rows * 1e6 for name, each in times.items()}


def works_of(server: RedisAddress, rows: Rows, *, sealed: bool) -> dict[str, Callable[[], object]]:
    """What is timed: our lookups and inserts of `rows`, and the parts of each."""
    how, count, width = "sealed" if sealed else "in clear", len(rows), rows[0].size
    cache = Cache.connect(server.url, namespace=how, timeout_ms=5_000, sealed=sealed)
    space = cache.keyspace(b"stage", (TensorSpec("embedding", "float32", (width,)),))
    digests = space.digests([b"row %d" % row for row in range(count)])
    keys = StageKeys(cache.key, b"stage").of(digests)
    space.insert(digests, (rows,), cost_us=100)
    values = get_many(cache.store, keys)
    entries = list(zip(keys, [value or b"" for value in values], strict=True))
    if not space.lookup(digests).found.all():
        raise SystemExit("something was not found; these times mean nothing")
    reader = space.reader
    assert isinstance(reader, StoreReader)
    encode, parts = reader.format.encode_many, fetched(reader, keys)
    return {
        f"{READ} {how}": lambda: space.lookup(digests),
        f"{READ} {how}: keys": lambda: reader.keys.of(digests),
        f"{READ} {how}: store": lambda: fetched(reader, keys),
        f"{READ} {how}: decode": lambda: decoded(reader, digests, parts),
        f"{WRITE} {how}": lambda: space.insert(digests, (rows,), cost_us=100),
        f"{WRITE} {how}: encode": lambda: encode(digests, (rows,), created_s=1, cost_us=1),
        f"{WRITE} {how}: store": lambda: set_many(cache.store, entries, ttl_s=1_209_600),
    }


def fetched(reader: StoreReader, keys: list[bytes]) -> list[Part]:
    """The values of `keys` as they come."""
    return list(reader.guard.read(keys, value_bytes=reader.format.entry_bytes))


def decoded(reader: StoreReader, digests: list[bytes], parts: list[Part]) -> Decoded:
    """What they hold."""
    return Decoding(reader.format, digests).of(parts)


def measure(server: RedisAddress, size_bytes: int, count: int) -> list[Line]:
    """Our reads and writes beside redis-py's for values of `size_bytes`, and where the time goes."""
    client = redis.Redis(port=server.port)
    rows = np.random.default_rng(0).standard_normal((count, size_bytes // 4)).astype("<f4")
    bare = {os.urandom(KEY_BYTES): row.tobytes() for row in rows}
    bare_keys = list(bare)
    works: dict[str, Callable[[], object]] = {
        "redis-py mget": lambda: client.mget(bare_keys),
        "redis-py mset": lambda: client.mset(bare),
    }
    for sealed in (True, False):
        works |= works_of(server, rows, sealed=sealed)
    times = us_a_row(works, count)
    lines = []
    for name, us in times.items():
        what, _, how = name.partition(" ")
        target = TARGETS.get((what, size_bytes, how))
        bare_us = times["redis-py mget" if what == READ else "redis-py mset"]
        lines.append(Line(name, us, bare_us / us if target is not None else None, target))
    return lines


def memory_ratio(size_bytes: int, *, sealed: bool, count: int = 4_096) -> float:
    """Bytes of the server's memory for an entry, time to live included, over those of its value."""
    with running_redis() as server:
        client = redis.Redis(port=server.port)
        cache = Cache.connect(server.url, namespace="memory", timeout_ms=5_000, sealed=sealed)
        space = cache.keyspace(b"stage", (TensorSpec("embedding", "float32", (size_bytes // 4,)),))
        digests = space.digests([b"row %d" % row for row in range(count)])
        rows = np.random.default_rng(0).standard_normal((count, size_bytes // 4)).astype("<f4")
        # The tables of keys and times double by powers of two; the first rows pay for an empty one.
        space.insert(digests[:1], (rows[:1],), cost_us=100)
        before = int(client.info("memory")["used_memory"])
        space.insert(digests[1:], (rows[1:],), cost_us=100)
        after = int(client.info("memory")["used_memory"])
        if not space.lookup(digests).found.all():
            raise SystemExit("something was not found; this memory means nothing")
        return (after - before) / (count - 1) / size_bytes


def run(console: Console) -> dict[str, Any]:
    """All measurements, and whether the targets are met; prints a table for each size, and one of memory."""
    os.environ.setdefault(KEY_ENV, TEST_KEYS)
    keep_freed_memory()  # as a worker of Spark does
    lines: dict[int, list[Line]] = {}
    with running_redis() as server:
        for size_bytes, count in SIZES.items():
            lines[size_bytes] = measure(server, size_bytes, count)
            console.print(
                shown(f"{size_bytes:,} bytes a value, {count:,} at a time", lines[size_bytes])
            )
    memory: dict[str, float] = {}
    is_missed = any(line.is_missed for each in lines.values() for line in each)
    for size_bytes, most in MEMORY_TARGETS.items():
        for how, sealed in (("sealed", True), ("in clear", False)):
            ratio = memory_ratio(size_bytes, sealed=sealed)
            is_missed |= ratio > most
            memory[f"{size_bytes} {how}"] = round(ratio, 3)
            console.print(f"memory of {size_bytes:,} bytes, {how}: {ratio:.3f}x, at most {most}x")
    return {
        "lines": {size: [asdict(line) for line in each] for size, each in lines.items()},
        "memory_x_value": memory,
        "targets_met": not is_missed,
    }


def shown(title: str, lines: list[Line]) -> Table:
    """The lines as a table."""
    table = Table("what", title=title, title_justify="left")
    for heading in ("us/row", "x redis-py", "target"):
        table.add_column(heading, justify="right")
    for line in lines:
        table.add_row(
            line.name,
            f"{line.us_per_row:.2f}",
            "" if line.ratio is None else f"{line.ratio:.2f}",
            "" if line.target is None else f">= {line.target}",
        )
    return table
