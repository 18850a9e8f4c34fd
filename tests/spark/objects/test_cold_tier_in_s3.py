"""A job whose entries outlive the server of its store in S3: evicted ones come back, and trouble there changes no row."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from redis import Redis

from kvspark.infer.model import Model
from kvspark.spark.jobs.job import run_score
from kvspark.spark.runs.run_report import RunReport
from tests.object_proxy import ObjectProxy, object_proxy, say
from tests.object_server import S3Address
from tests.redis_server import PATIENT_MS, RedisAddress, running_redis
from tests.spark.small_jobs import job, published, write_night

pytestmark = [pytest.mark.spark, pytest.mark.redis]


@pytest.fixture
def redis() -> Iterator[RedisAddress]:
    with running_redis() as server:
        yield server


@pytest.fixture
def proxy(s3: S3Address, spark: SparkSession) -> Iterator[ObjectProxy]:
    """In front of the server, for this process and for workers that start from now on."""
    environment = spark.sparkContext.environment
    with object_proxy(s3.endpoint) as proxy, pytest.MonkeyPatch.context() as patch:
        ours = {**s3.environment, "AWS_ENDPOINT_URL": proxy.endpoint}
        for name, value in ours.items():
            patch.setenv(name, value)
        environment.update(ours)
        yield proxy
        for name in ours:
            environment.pop(name)


def flush(redis: RedisAddress) -> None:
    """Loses everything."""
    with Redis.from_url(redis.url) as client:
        client.flushall()


def test_what_the_server_has_lost_is_not_computed_again(
    spark: SparkSession,
    tmp_path: Path,
    mlp: Model,
    s3: S3Address,
    proxy: ObjectProxy,
    redis: RedisAddress,
) -> None:
    mlp.save(tmp_path / "model")
    night = write_night(tmp_path / "night")
    run_score(job(tmp_path, night), spark=spark)
    without = published(tmp_path / "out")
    cold = f"{s3.url}/{secrets.token_hex(4)}/cold"

    def run() -> RunReport:
        cache = {"url": redis.url, "namespace": "tests", "timeout_ms": PATIENT_MS, "cold": cold}
        report = run_score(job(tmp_path, night, cache=cache), spark=spark)
        assert published(tmp_path / "out").equals(without)
        return report

    first = run()
    assert first.stats.stages["output"].computed == 200
    flush(redis)
    second = run()
    assert second.stats.stages["output"].hits == 200
    assert second.stats.degraded == frozenset()
    flush(redis)
    proxy.turn_on(say(403, "ExpiredToken"), lambda method, path: True)
    third = run()
    assert proxy.fired >= 1
    assert third.stats.stages["output"].computed == 200
    assert third.stats.degraded
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in str(third)
