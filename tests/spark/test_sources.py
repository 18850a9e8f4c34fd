"""Models of every source, each scored by a job from its conf alone, twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from kvspark.infer.model import Model
from kvspark.spark.jobs.job import run_score
from kvspark.spec import TensorSpec
from tests import callables
from tests.onnx_models import cnn, towers
from tests.redis_server import PATIENT_MS, running_redis
from tests.spark.small_jobs import job, published

pytestmark = [pytest.mark.spark, pytest.mark.redis, pytest.mark.slow]

ROWS = 120


def random_rows(width: int, seed: int) -> list[list[float]]:
    made = np.random.default_rng(seed).standard_normal((ROWS, width)).astype("float32")
    return made.tolist()


def cnn_model(folder: Path) -> tuple[Model, dict[str, pa.Array]]:
    # A flat array, as a column holds a picture.
    pixels = pa.array(random_rows(3 * 16 * 16, 1), pa.list_(pa.float32()))
    return Model.from_onnx(cnn(folder / "m.onnx"), cuts=["relu2"]), {"image": pixels}


def towers_model(folder: Path) -> tuple[Model, dict[str, pa.Array]]:
    columns = {
        name: pa.array(random_rows(width, 2), pa.list_(pa.float32()))
        for name, width in (("user", 8), ("item", 6))
    }
    return Model.from_onnx(towers(folder / "m.onnx"), cuts=["/user/relu", "/item/relu"]), columns


def function_model(folder: Path) -> tuple[Model, dict[str, pa.Array]]:
    del folder
    model = Model.from_callable(
        callables.doubled,
        fingerprint="v1",
        inputs=[TensorSpec("x", "float32", (4,))],
        outputs=[TensorSpec("y", "float32", (4,))],
    )
    return model, {"x": pa.array(random_rows(4, 3), pa.list_(pa.float32()))}


@pytest.mark.parametrize("make", [cnn_model, towers_model, function_model])
def test_the_second_run_computes_nothing_and_gives_the_same_bits(
    spark: SparkSession,
    tmp_path: Path,
    make: Callable[[Path], tuple[Model, dict[str, pa.Array]]],
) -> None:
    model, columns = make(tmp_path)
    model.save(tmp_path / "model")
    night = tmp_path / "night"
    night.mkdir()
    pq.write_table(pa.table({"id": np.arange(ROWS), **columns}), night / "0.parquet")
    run_score(job(tmp_path, night), spark=spark)
    without = published(tmp_path / "out")
    computed = []
    with running_redis() as server:
        cache = {"url": server.url, "namespace": "tests", "timeout_ms": PATIENT_MS}
        # All of them: by itself, a product of two towers is not looked up.
        plan = {"stages": {stage.name: {"cached": True} for stage in model.stages}}
        for _ in range(2):
            report = run_score(job(tmp_path, night, cache=cache, plan=plan), spark=spark)
            computed.append({name: s.computed for name, s in report.stats.stages.items()})
            assert report.stats.degraded == frozenset()
            assert published(tmp_path / "out").equals(without)
    assert computed == [
        {stage.name: ROWS for stage in model.stages},
        {stage.name: 0 for stage in model.stages},
    ]
