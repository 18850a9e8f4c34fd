"""The run that faults happen to: a model of two cached stages, 1,000 rows, half of them known.

It asks the store some 100 times and writes 1,000 entries, so a fault that costs a little each
time costs a lot. What is right is the run without a cache.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import cache as once
from typing import final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from kvspark.cache.cache import Cache, StageCache
from kvspark.infer.model import Model
from kvspark.infer.predict.predictor import Predictor
from kvspark.infer.resolve.compiled_plan import compiled_plan
from kvspark.plan.plan import Plan
from kvspark.spec import TensorSpec
from kvspark.stats import RunStats
from tests.processes import state
from tests.redis_server import PATIENT_MS, RedisAddress
from tests.small_models import Mlp, seeded

NAMESPACE = "faults"
USER = "worker"
PASSWORD_ENV = "KVSPARK_TESTS_FAULTS_PASSWORD"
PASSWORD = "before"
BATCHES = 100
BATCH_ROWS = 10
TIMEOUT_MS = 250

Batches = list[tuple[int, dict[str, pa.Array]]]


@final
@dataclass(frozen=True)
class Ran:
    """What came of one run of the case."""

    output: pa.Table
    stats: RunStats
    seconds: float


def connected(url: str, *, timeout_ms: int = TIMEOUT_MS) -> Cache:
    """The cache of the case, as the user that `prepare` made."""
    return Cache.connect(
        url,
        namespace=NAMESPACE,
        timeout_ms=timeout_ms,
        username=USER,
        password_env=PASSWORD_ENV,
    )


def prepare(server: RedisAddress) -> None:
    """Makes the user on a new server, and stores the results of every other batch."""
    server.ask("ACL", "SETUSER", USER, "on", f">{PASSWORD}", "~*", "+@all")
    with closing(connected(server.url, timeout_ms=PATIENT_MS)) as cache:
        ran = _run(_batches()[::2], cache)
    assert ran.stats.degraded == frozenset()


def run(cache: Cache | None) -> Ran:
    """All batches, in order, in one stream."""
    return _run(_batches(), cache)


@once
def without_cache() -> Ran:
    """What is right, and how long it takes."""
    run(None)  # torch warms up
    return run(None)


@once
def _model() -> Model:
    return Model.from_torch(seeded(Mlp()), {"x": torch.zeros(4, 8)}, cuts=["trunk"])


@once
def _batches() -> Batches:
    rows = np.random.default_rng(5).standard_normal((BATCHES * BATCH_ROWS, 8)).astype("float32")
    return [
        (at, {"x": pa.array(list(rows[at : at + BATCH_ROWS]), pa.list_(pa.float32()))})
        for at in range(0, len(rows), BATCH_ROWS)
    ]


def _run(batches: Batches, cache: Cache | None) -> Ran:
    # So few that look-ups of the second stage and writes happen all the time; and not watched, so that a
    # busy machine sends as many commands as an idle one.
    plan = Plan(max_pending_rows=200, watch=False)
    predictor = Predictor(compiled_plan(_model().bundle, plan), cache=cache)
    started = time.perf_counter()
    tables = [
        pa.table({"batch": pa.array([tag] * len(outputs["label"])), **outputs})
        for tag, outputs in predictor.stream(iter(batches))
    ]
    seconds = time.perf_counter() - started
    return Ran(pa.concat_tables(tables), predictor.drain(), seconds)


@final
@dataclass(frozen=True)
class KnownRow:
    """One row of a stage of its own."""

    values: npt.NDArray[np.float32]

    def found(self, cache: Cache) -> bool:
        """Whether the store has it; what it has must be right."""
        space = self._space(cache)
        lookup = space.lookup(space.digests([b"row"]))
        if lookup.found.any():
            (column,) = lookup.columns
            assert np.asarray(column).tobytes() == self.values.tobytes()
        return bool(lookup.found.all())

    def store(self, cache: Cache) -> int:
        """Bytes of its entry."""
        space = self._space(cache)
        return space.insert(space.digests([b"row"]), (self.values,), cost_us=0)

    def _space(self, cache: Cache) -> StageCache:
        return cache.keyspace(b"one row", (TensorSpec("t", "float32", (8,)),))


def known_row(url: str) -> tuple[KnownRow, int]:
    """A row that the store at `url` knows now, and the bytes of its entry."""
    row = KnownRow(np.arange(8, dtype="float32").reshape(1, 8))
    with closing(connected(url, timeout_ms=PATIENT_MS)) as cache:
        return row, row.store(cache)


def stopped(pid: int) -> Callable[[], int]:
    """Counts 1 if the process is stopped, or gone."""

    def count() -> int:
        return int(state(pid) in {"T", "Z", "gone"})

    return count
