"""A job that looks up ahead: the same output and counts, the settings reach the workers, and it can be cancelled."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from chispa import assert_df_equality
from pyspark.sql import DataFrame, SparkSession

from kvspark.cache.cache import Cache
from kvspark.config.cache import CacheConfig
from kvspark.infer.model import Model
from kvspark.spark.jobs.job import run_score
from kvspark.spark.runs.tally import Tally
from kvspark.spark.scoring.score import score
from tests.faults.proxy import FaultProxy
from tests.faults.wire import BlackHole
from tests.redis_server import PATIENT_MS, running_redis
from tests.spark.conftest import ROWS
from tests.spark.small_jobs import job, published, write_night

pytestmark = [pytest.mark.spark, pytest.mark.redis]


def test_a_job_that_looks_up_ahead_finds_what_the_one_before_it_wrote(
    spark: SparkSession, tmp_path: Path, mlp: Model
) -> None:
    mlp.save(tmp_path / "model")
    night = write_night(tmp_path / "night", 400)
    with running_redis() as server:
        cache = {"url": server.url, "namespace": "tests", "timeout_ms": PATIENT_MS}
        ahead = {**cache, "overlap_bytes": 1 << 20}
        first = run_score(job(tmp_path, night, cache=ahead), spark=spark)
        computed = published(tmp_path / "out")
        second = run_score(job(tmp_path, night, cache=ahead), spark=spark)
        assert published(tmp_path / "out").equals(computed)
    outputs = [run.stats.stages["output"] for run in (first, second)]
    assert [(each.computed, each.hits) for each in outputs] == [(400, 0), (0, 400)]
    assert first.stats.degraded == second.stats.degraded == frozenset()


def test_a_job_that_is_cancelled_while_it_waits_ends_at_once_and_the_next_one_finds_all(
    spark: SparkSession, table: DataFrame, mlp: Model
) -> None:
    def cache(url: str) -> Cache:
        conf = {"namespace": "cancelled", "timeout_ms": 120_000, "overlap_bytes": 1 << 20}
        return Cache.from_config(CacheConfig.checked(url=url, **conf))

    with running_redis() as server, FaultProxy(server.port, BlackHole()) as proxy:
        expected = score(table, mlp, cache=cache(server.url)).cache()
        assert expected.count() == ROWS
        begun = time.monotonic()
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(score(table, mlp, cache=cache(proxy.url)).collect)
            while not proxy.fired and not waiting.done():
                time.sleep(0.05)
            spark.sparkContext.cancelAllJobs()
            assert "cancelled" in str(waiting.exception())
        assert proxy.fired
        assert time.monotonic() - begun < 60
        tally = Tally(spark)
        again = score(table, mlp, cache=cache(server.url), stats=tally)
        assert_df_equality(again, expected, ignore_row_order=True)
        assert tally.stats.stages["output"].computed == 0
        assert tally.stats.degraded == frozenset()
