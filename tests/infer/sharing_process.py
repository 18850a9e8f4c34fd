"""A worker that shares dear rows with others: `python -m tests.infer.sharing_process URL FROM_MS [fresh]`.

It computes rows of its own, unless it is to be fresh, says `ready`, waits for a line, computes the shared rows and prints what
happened.
"""

from __future__ import annotations

import json
import os
import sys
from hashlib import sha256
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from kvspark.cache.cache import Cache
from kvspark.config.cache import CacheConfig
from kvspark.infer.model import Model
from kvspark.infer.predict.predictor import Predictor
from kvspark.infer.resolve.compiled_plan import compiled_plan
from kvspark.spec import MicroBatch, TensorSpec
from tests import callables

CALL = 32
SHARED = 8 * CALL


def model() -> Model:
    """A function that takes as long as it is told, but no time while it is tried here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("KVSPARK_TEST_CALL_S", raising=False)
        return Model.from_callable(
            callables.dear,
            fingerprint="v1",
            inputs=[TensorSpec("x", "float32", (4,))],
            outputs=[TensorSpec("y", "float32", (4,))],
            micro_batch=MicroBatch(rows=CALL),
        )


def config(url: str, from_ms: float | None) -> CacheConfig:
    return CacheConfig(url=url, namespace="shared", lease_from_ms=from_ms, timeout_ms=2_000)


def rows(count: int = SHARED, seed: int = 1) -> dict[str, pa.Array]:
    """Equal seeds are equal rows."""
    drawn = np.random.default_rng(seed).normal(size=(count, 4)).astype(np.float32)
    return {"x": pa.array(drawn.tolist(), pa.list_(pa.float32()))}


def learned(cache: Cache, seed: int = 0) -> Predictor:
    """A predictor that knows what a call takes, from rows that nobody else has."""
    predictor = Predictor(compiled_plan(model().bundle), cache=cache)
    predictor.predict(rows(2 * CALL, seed or os.getpid()))
    predictor.drain()
    return predictor


def checksum(outputs: dict[str, Any]) -> str:
    return sha256(np.array(outputs["y"].to_pylist(), dtype="<f4").tobytes()).hexdigest()


def main(url: str, from_ms: str, fresh: str = "") -> None:
    cache = Cache.from_config(config(url, float(from_ms)))
    predictor = Predictor(compiled_plan(model().bundle), cache=cache) if fresh else learned(cache)
    print("ready", flush=True)
    sys.stdin.readline()
    made = checksum(predictor.predict(rows()))
    stats = predictor.drain()
    stage = stats.stages["output"]
    told = {"computed": stage.computed, "leased": stage.leased, "waited": stage.seconds_waited}
    print(json.dumps({**told, "made": made, "errors": dict(stats.cache_errors)}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
