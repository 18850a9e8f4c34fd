"""The job with a cache: less is computed, and nothing else changes, whatever the cache does."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from pyspark.sql import SparkSession

import kvspark
from kvspark.cache.cache import Cache
from kvspark.errors import CacheRequiredError, UsageError
from kvspark.infer.model import Model
from kvspark.spark.jobs.job import run_score
from kvspark.spark.runs.run_report import RunReport
from kvspark.spark.runs.tally import Tally
from kvspark.spark.scoring.score import score
from tests.faults.matrix import covers
from tests.redis_server import PATIENT_MS, RedisAddress, running_redis
from tests.small_models import Mlp, seeded
from tests.spark.conftest import ROWS
from tests.spark.small_jobs import job, published, write_night

pytestmark = [pytest.mark.spark, pytest.mark.redis]

ABSENT = "redis://127.0.0.1:1"


@pytest.fixture
def redis() -> Iterator[RedisAddress]:
    with running_redis() as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path, mlp: Model) -> Path:
    mlp.save(tmp_path / "model")
    return tmp_path


def run(
    spark: SparkSession,
    folder: Path,
    night: Path,
    url: str | None,
    *,
    timeout_ms: int = PATIENT_MS,
    **sections: Any,
) -> tuple[RunReport, pa.Table]:
    if url is not None:
        sections["cache"] = {"url": url, "namespace": "tests", "timeout_ms": timeout_ms}
    report = run_score(job(folder, night, **sections), spark=spark)
    return report, published(folder / "out")


def test_the_second_night_computes_what_changed_and_gives_the_same_bits(
    spark: SparkSession, folder: Path, redis: RedisAddress
) -> None:
    small, large = write_night(folder / "small", 150), write_night(folder / "large", 200)
    _, without = run(spark, folder, large, None)
    first, _ = run(spark, folder, small, redis.url)
    second, with_cache = run(spark, folder, large, redis.url)
    third, again = run(spark, folder, large, redis.url)
    assert [r.stats.stages["output"].computed for r in (first, second, third)] == [150, 50, 0]
    assert second.stats.stages["output"].hits == 150
    assert third.stats.stages["trunk"].rows == 0
    assert with_cache.equals(without)
    assert again.equals(without)
    assert (third.stats.degraded, third.stats.cache_errors) == (frozenset(), {})
    assert third.seconds_saved is not None


def test_within_a_budget_the_same_part_of_the_rows_is_remembered_every_night(
    spark: SparkSession, folder: Path, redis: RedisAddress
) -> None:
    night = write_night(folder / "night", 400)
    _, without = run(spark, folder, night, None)
    small = {
        "url": redis.url,
        "namespace": "tests",
        "budget_bytes": 100_000,
        "timeout_ms": 10_000,  # Nothing is dropped, however busy the machine is.
    }
    first = run_score(job(folder, night, cache=small), spark=spark)
    second = run_score(job(folder, night, cache=small), spark=spark)
    hits = second.stats.stages["output"].hits
    assert first.stats.stages["output"].computed == 400
    assert 0 < hits < 400
    assert second.stats.stages["output"].computed == 400 - hits
    written = [[s.bytes_written for s in run.stats.stages.values()] for run in (first, second)]
    assert min(written[0]) > 0
    assert written[1] == [0, 0]
    assert published(folder / "out").equals(without)


def test_a_new_head_uses_the_old_trunk_and_never_opens_its_weights(
    spark: SparkSession, folder: Path, redis: RedisAddress
) -> None:
    night = write_night(folder / "night")
    run(spark, folder, night, redis.url)
    module: Any = seeded(Mlp())
    with torch.no_grad():
        module.head.bias += 1
    shutil.rmtree(folder / "model")
    Model.from_torch(module, {"x": torch.zeros(4, 8)}, cuts=["trunk"]).save(folder / "model")
    report, with_cache = run(spark, folder, night, redis.url)
    _, without = run(spark, folder, night, None)
    assert with_cache.equals(without)
    trunk = report.stats.stages["trunk"]
    assert (trunk.hits, trunk.computed, trunk.weights_loaded) == (200, 0, 0)
    assert report.stats.stages["output"].computed == 200


def test_a_night_is_in_the_registry_and_a_registry_that_is_lost_costs_no_hit(
    spark: SparkSession, folder: Path, redis: RedisAddress
) -> None:
    night = write_night(folder / "night")
    _, without = run(spark, folder, night, None)
    first, _ = run(spark, folder, night, redis.url)
    cache = Cache.connect(redis.url, namespace="tests", timeout_ms=PATIENT_MS)
    stocks = cache.registry().stocks()
    assert stocks is not None
    assert {each.name: each.entries for each in stocks.values()} == {"trunk": 200, "output": 200}
    second, _ = run(spark, folder, night, redis.url)
    cache.registry().remove(None)
    third, again = run(spark, folder, night, redis.url)
    cache.close()
    told = [each.stats.stages["output"] for each in (first, second, third)]
    assert [each.hits for each in told] == [0, 200, 200]
    assert [each.lookups for each in told] == [200, 200, 200]
    assert again.equals(without)


@covers("F1")
def test_without_a_store_the_output_is_the_same_and_the_run_says_degraded(
    spark: SparkSession, folder: Path
) -> None:
    night = write_night(folder / "night")
    _, without = run(spark, folder, night, None)
    report, with_none = run(spark, folder, night, ABSENT)
    assert with_none.equals(without)
    assert "unavailable" in report.stats.degraded
    written = json.loads((folder / "out" / "_kvspark" / "run.json").read_text())
    assert written["degraded"] == ["unavailable"]
    assert written["cache"] == ABSENT


@covers("F4")
def test_a_store_that_hangs_changes_nothing(
    spark: SparkSession, folder: Path, redis: RedisAddress
) -> None:
    night = write_night(folder / "night")
    _, without = run(spark, folder, night, None)
    redis.signal(signal.SIGSTOP)
    report, with_hung = run(spark, folder, night, redis.url, timeout_ms=250)
    redis.signal(signal.SIGCONT)
    assert with_hung.equals(without)
    assert "timeout" in report.stats.degraded


@covers("F1")
@pytest.mark.parametrize("section", ["run", "cache"])
def test_a_required_cache_that_is_not_there_stops_the_run_before_it_writes(
    spark: SparkSession, folder: Path, section: str
) -> None:
    conf: dict[str, Any] = {"cache": {"url": ABSENT, "namespace": "tests"}}
    if section == "run":
        conf["run"] = {"require_cache": True}
    else:
        conf["cache"]["required"] = True
    with pytest.raises(CacheRequiredError) as caught:
        run_score(job(folder, write_night(folder / "night"), **conf), spark=spark)
    assert caught.value.exit_code == 69
    assert not (folder / "out").exists()


def test_an_unknown_codec_is_told_on_the_driver(
    spark: SparkSession, folder: Path, redis: RedisAddress
) -> None:
    plan = {"stages": {"output": {"cached": True, "codec": "lzma"}}}
    with pytest.raises(UsageError, match="lzma"):
        run(spark, folder, write_night(folder / "night"), redis.url, plan=plan)


def test_score_uses_the_conf_of_a_cache(
    spark: SparkSession, table: Any, mlp: Model, redis: RedisAddress
) -> None:
    cache = Cache.connect(redis.url, namespace="score", timeout_ms=PATIENT_MS)
    tallies = [Tally(spark), Tally(spark)]
    scored = [score(table, mlp, cache=cache, stats=tally).collect() for tally in tallies]
    assert sorted(scored[0]) == sorted(scored[1])
    assert [t.stats.stages["output"].computed for t in tallies] == [ROWS, 0]
    assert [t.stats.stages["output"].hits for t in tallies] == [0, ROWS]
    counted = cache.stats()
    assert (counted.rows, counted.hits, counted.stages["output"].computed) == (2 * ROWS, ROWS, ROWS)
    score(table, mlp, cache=cache).collect()
    table.select(kvspark.udf(mlp, cache=cache, output="label")("x")).collect()
    assert cache.stats().rows == 4 * ROWS
    assert cache.stats().stages["output"].hits == 3 * ROWS


def test_the_udf_and_score_share_entries(
    spark: SparkSession, table: Any, mlp: Model, redis: RedisAddress
) -> None:
    cache = Cache.connect(redis.url, namespace="udf", timeout_ms=PATIENT_MS)
    table.select(kvspark.udf(mlp, cache=cache, output="label")("x")).collect()
    tally = Tally(spark)
    score(table, mlp, cache=cache, stats=tally).collect()
    assert tally.stats.stages["output"].hits == ROWS
