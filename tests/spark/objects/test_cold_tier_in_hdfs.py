"""A job whose entries outlive the server of its store in HDFS; what trouble there does is in `test_cold_in_hdfs`."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from kvspark.infer.model import Model
from kvspark.spark.jobs.job import run_score
from tests.hdfs_server import HdfsServer
from tests.redis_server import PATIENT_MS, running_redis
from tests.spark.objects.test_cold_tier_in_s3 import flush
from tests.spark.small_jobs import job, published, write_night

pytestmark = [pytest.mark.spark, pytest.mark.redis]


def test_what_the_server_has_lost_is_not_computed_again(
    spark: SparkSession, tmp_path: Path, mlp: Model, hdfs: HdfsServer
) -> None:
    mlp.save(tmp_path / "model")
    night = write_night(tmp_path / "night")
    run_score(job(tmp_path, night), spark=spark)
    without = published(tmp_path / "out")
    with running_redis() as redis:
        cache = {
            "url": redis.url,
            "namespace": "tests",
            "timeout_ms": PATIENT_MS,
            "cold": f"{hdfs.url}/{secrets.token_hex(4)}/cold",
        }
        for computed, hits in ((200, 0), (0, 200)):
            report = run_score(job(tmp_path, night, cache=cache), spark=spark)
            stage = report.stats.stages["output"]
            assert (stage.computed, stage.hits) == (computed, hits)
            assert report.stats.degraded == frozenset()
            assert published(tmp_path / "out").equals(without)
            flush(redis)
