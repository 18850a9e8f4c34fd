"""A job whose results are inserted behind: a task ends when they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from kvspark.infer.model import Model
from kvspark.spark.jobs.job import run_score
from tests.redis_server import PATIENT_MS, running_redis
from tests.spark.small_jobs import job, published, write_night

pytestmark = [pytest.mark.spark, pytest.mark.redis]


def test_a_job_that_writes_behind_has_written_all_whatever_fits(
    spark: SparkSession, tmp_path: Path, mlp: Model
) -> None:
    mlp.save(tmp_path / "model")
    night = write_night(tmp_path / "night", 400)
    with running_redis() as server:
        cache = {"url": server.url, "namespace": "tests", "timeout_ms": PATIENT_MS}
        queued = {**cache, "overlap_bytes": 1 << 20}
        first = run_score(job(tmp_path, night, cache=queued), spark=spark)
        computed = published(tmp_path / "out")
        second = run_score(job(tmp_path, night, cache=cache), spark=spark)
        assert published(tmp_path / "out").equals(computed)
        small = {**queued, "namespace": "small", "overlap_bytes": 1_000}
        third = run_score(job(tmp_path, night, cache=small), spark=spark)
        assert published(tmp_path / "out").equals(computed)
    assert [run.stats.stages["output"].computed for run in (first, second, third)] == [400, 0, 400]
    assert first.stats.stages["output"].bytes_written > 0
    assert first.stats.degraded == frozenset()
    # What did not fit was inserted by the caller.
    written = [sum(s.bytes_written for s in run.stats.stages.values()) for run in (first, third)]
    assert written[1] == written[0]
