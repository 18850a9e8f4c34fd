"""A job that looks up ahead: the same output and counts, and the settings reach the workers."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from kvspark.infer.model import Model
from kvspark.spark.job import run_score
from tests.redis_server import PATIENT_MS, running_redis
from tests.spark.jobs import job, published, write_night

pytestmark = [pytest.mark.spark, pytest.mark.redis]


def test_a_job_that_looks_up_ahead_finds_what_the_one_before_it_wrote(
    spark: SparkSession, tmp_path: Path, mlp: Model
) -> None:
    mlp.save(tmp_path / "model")
    night = write_night(tmp_path / "night", 400)
    with running_redis() as server:
        cache = {"url": server.url, "namespace": "tests", "timeout_ms": PATIENT_MS}
        ahead = {**cache, "look_ahead_bytes": 1 << 20}
        first = run_score(job(tmp_path, night, cache=ahead), spark=spark)
        computed = published(tmp_path / "out")
        second = run_score(job(tmp_path, night, cache=ahead), spark=spark)
        assert published(tmp_path / "out").equals(computed)
    outputs = [run.stats.stages["output"] for run in (first, second)]
    assert [(each.computed, each.hits) for each in outputs] == [(400, 0), (0, 400)]
    assert first.stats.degraded == second.stats.degraded == frozenset()
