"""A job beside a store that is slower than its model leaves it alone, and says since when and why."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from kvspark.infer.model import Model
from kvspark.infer.stream.stream import FIRST_ROWS
from kvspark.report.rests import rest_lines
from kvspark.spark.jobs.job import run_score
from kvspark.spark.runs.run_report import REPORT_FOLDER, read_report
from tests.faults.proxy import FaultProxy
from tests.faults.wire import Delay
from tests.redis_server import RedisAddress
from tests.spark.small_jobs import job, published, write_night

ROWS = 20_000


@pytest.mark.spark
def test_a_job_says_since_when_and_why_it_left_a_slow_store_alone(
    spark: SparkSession, tmp_path: Path, mlp: Model, redis_server: RedisAddress
) -> None:
    mlp.save(tmp_path / "model")
    write_night(tmp_path / "night", ROWS)
    alone = run_score(job(tmp_path, tmp_path / "night"), spark=spark)
    rows = published(tmp_path / "out")
    stages = {"trunk": {"cached": False}}  # its look-ups count as computing
    plan = {"mode": "rule", "stages": stages}
    with FaultProxy(redis_server.port, Delay(0.04)) as proxy:
        cache = {"url": proxy.url, "namespace": "rests", "timeout_ms": 10_000}
        config = job(tmp_path, tmp_path / "night", cache=cache, plan=plan)
        report = run_score(config, spark=spark)
    assert published(tmp_path / "out").equals(rows)
    assert report.stats.degraded == alone.stats.degraded == frozenset()
    stage, rest = report.stats.stages["output"], report.stats.rests["output"]
    assert 0 < stage.rested < ROWS
    assert stage.rested + stage.lookups == ROWS
    assert rest.reasons.keys() == {"slower"}
    assert rest.lookup_us > 4e4 / FIRST_ROWS > rest.compute_us
    assert datetime.fromisoformat(rest.since) >= datetime.fromisoformat(report.started_at)
    found = read_report(tmp_path / "out" / REPORT_FOLDER)
    assert found is not None
    assert found.stats.rests == report.stats.rests
    assert any(
        "rows of output" in line and "looking a row up" in line for line in rest_lines(found)
    )
