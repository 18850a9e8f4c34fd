"""A model on its way to the workers, and what they keep of it."""

from __future__ import annotations

import secrets
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from pyspark.sql import SparkSession

from kvspark.infer.model import Model
from kvspark.infer.resolve.compiled_plan import compiled_plan
from kvspark.plan.plan import Plan, StagePlan
from kvspark.spark.scoring import worker
from kvspark.spark.scoring.score import task_spec
from kvspark.spark.scoring.worker import TaskSpec
from kvspark.spark.weights.by_broadcast import ByBroadcast, by_broadcast
from tests.small_models import Mlp, seeded


def stages(spec: TaskSpec) -> Mapping[str, Any]:
    """The broadcasts of a task, by stage."""
    assert isinstance(spec.shipped, ByBroadcast)
    return spec.shipped.stages


@pytest.mark.spark
def test_each_stage_has_a_broadcast_of_its_own(spark: SparkSession, mlp: Model) -> None:
    shipped = by_broadcast(spark, mlp.bundle)
    assert {name: sorted(b.value) for name, b in shipped.stages.items()} == {
        name: sorted(files) for name, files in mlp.bundle.stage_files.items()
    }


@pytest.mark.spark
def test_a_worker_keeps_two_predictors_and_uses_them_again(spark: SparkSession, mlp: Model) -> None:
    plans = [Plan({"output": StagePlan(cached=False)}, max_pending_rows=rows) for rows in (1, 2, 3)]
    specs = [task_spec(spark, compiled_plan(mlp.bundle, plan), None) for plan in plans]

    def kept(batches):
        list(batches)
        first = worker.predictor_for(specs[0])
        again = worker.predictor_for(specs[0]) is first
        others = [worker.predictor_for(spec) for spec in specs[1:]]
        kept = [worker.predictor_for(spec) for spec in specs[1:]]
        both = [old is new for old, new in zip(others, kept, strict=True)]
        counts = [int(again), sum(both), int(worker.predictor_for(specs[0]) is first)]
        yield pa.RecordBatch.from_arrays([pa.array(counts)], names=["n"])

    rows = spark.range(1, numPartitions=1).mapInArrow(kept, "n long").collect()
    assert [row.n for row in rows] == [1, 2, 0]


@pytest.mark.spark
def test_a_kept_predictor_opens_stages_from_the_job_that_runs_now(spark: SparkSession) -> None:
    # Weights that no earlier run has left on this host.
    model = Model.from_torch(
        seeded(Mlp(), seed=secrets.randbits(31)), {"x": torch.zeros(4, 8)}, cuts=["trunk"]
    )
    first, second = (task_spec(spark, compiled_plan(model.bundle), None) for _ in range(2))

    def keeps(batches):
        list(batches)
        worker.predictor_for(first)
        time.sleep(0.5)  # so that the tasks meet in two workers
        yield pa.RecordBatch.from_arrays([pa.array([1])], names=["n"])

    def computes(batches):
        list(batches)
        kept = worker._kept.get((second.key, 1, ()))
        kept_stages: Any = getattr(kept.opener._shipped, "stages", None) if kept else {}
        paths = {b._path for b in kept_stages.values()}
        stale = paths - {b._path for b in stages(second).values()}
        for path in stale:
            Path(path).unlink()  # as when Spark has cleaned the first job's broadcasts
        x = pa.array([[0.0] * 8], pa.list_(pa.float32()))
        made = worker.predictor_for(second).predict({"x": x})
        yield pa.RecordBatch.from_arrays([pa.array([len(made["label"]) * len(stale)])], names=["n"])

    spark.range(4, numPartitions=4).mapInArrow(keeps, "n long").collect()
    rows = spark.range(4, numPartitions=4).mapInArrow(computes, "n long").collect()
    assert any(row.n == len(stages(first)) for row in rows)


def test_a_worker_that_has_no_row_yet_imports_no_torch_and_no_redis() -> None:
    code = (
        "import sys, kvspark.spark.scoring.score, kvspark.spark.scoring.worker;"
        "print(sorted({'torch', 'redis', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
