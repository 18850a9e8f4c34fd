"""A plan that was measured on rows of a table, for `score`: what pays is cached, and the bits are the same."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

import kvspark
from kvspark.cache.cache import Cache
from kvspark.errors import UsageError
from kvspark.infer.model import Model
from kvspark.infer.planning import measured_plan as planning
from kvspark.plan.plan import Plan, StagePlan
from kvspark.spark.check import frame_plan
from tests.redis_server import PATIENT_MS, RedisAddress, running_redis
from tests.spark.by_id import by_id
from tests.spark.conftest import ROWS

pytestmark = [pytest.mark.spark, pytest.mark.redis]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisAddress]:
    with running_redis("--maxmemory-policy", "noeviction") as server:
        yield server


@pytest.fixture
def cache(server: RedisAddress) -> Cache:
    server.ask("FLUSHALL")
    return Cache.connect(server.url, namespace="frames", timeout_ms=PATIENT_MS)


def store_of(monkeypatch: pytest.MonkeyPatch, row_s: float) -> None:
    """One that takes so many seconds for each row."""

    def given(cost: Any, stage: Any, *_: Any, **__: Any) -> Any:
        size = stage.codec.bytes_per_row
        return replace(cost, lookup_s=row_s, insert_s=row_s, entry_bytes=size)

    monkeypatch.setattr(planning, "with_store_cost", given)


def cached(plan: Plan) -> dict[str, bool]:
    return {name: stage.cached for name, stage in plan.stages.items()}


def test_score_asks_no_store_that_is_slower_than_the_model(
    table: DataFrame, mlp: Model, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = by_id(kvspark.score(table, mlp))
    store_of(monkeypatch, 1.0)
    slow = kvspark.measured_plan(table, mlp, cache=cache)
    assert cached(slow) == {"trunk": False, "output": False}
    assert slow.stages["output"].why.startswith("fetching costs 1,000,000 us, computing ")
    assert by_id(kvspark.score(table, mlp, cache=cache, plan=slow)) == right
    assert cache.stats().lookups == 0

    store_of(monkeypatch, 0.0)
    free = kvspark.measured_plan(table, mlp, cache=cache, rows=1_000_000)
    assert cached(free)["output"]
    assert by_id(kvspark.score(table, mlp, cache=cache, plan=free)) == right
    assert cache.stats().stages["output"].lookups == ROWS


def test_stages_that_are_named_stay_and_shares_count(
    table: DataFrame, mlp: Model, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_of(monkeypatch, 1.0)
    given = Plan({"output": StagePlan(cached=True, share=0.5)}, max_pending_rows=64)
    plan = kvspark.measured_plan(table, mlp, cache=cache, plan=given)
    assert plan.stages["output"] == given.stages["output"]
    assert not plan.stages["trunk"].cached
    assert plan.max_pending_rows == 64


def test_neither_a_full_store_nor_a_bad_row_is_a_reason_to_go_by_rule(
    spark: SparkSession,
    table: DataFrame,
    mlp: Model,
    server: RedisAddress,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cache = Cache.connect(server.url, namespace="frames", timeout_ms=PATIENT_MS)
    with_null = spark.createDataFrame([(-1, None)], "id long, x array<float>").union(table)
    server.ask("CONFIG", "SET", "maxmemory", "1")
    try:
        with caplog.at_level(logging.INFO, logger=frame_plan.log.name):
            kvspark.measured_plan(with_null, mlp, cache=cache)
    finally:
        server.ask("CONFIG", "SET", "maxmemory", "0")
    told = [record.getMessage() for record in caplog.records if record.name == frame_plan.log.name]
    assert [line.split()[:2] for line in told] == [["plan:", "trunk"], ["plan:", "output"]]


def test_where_nothing_can_be_measured_the_plan_is_the_rules_and_the_log_says_why(
    table: DataFrame, mlp: Model, cache: Cache, caplog: pytest.LogCaptureFixture
) -> None:
    rule = Plan().for_bundle(mlp.bundle)
    away = Cache.connect("redis://127.0.0.1:1", namespace="away", timeout_ms=50)
    with caplog.at_level(logging.WARNING):
        assert kvspark.measured_plan(table, mlp, cache=away) == rule
        assert kvspark.measured_plan(table.where("id < 0"), mlp, cache=cache) == rule
    told = [record.getMessage() for record in caplog.records if "by rule" in record.getMessage()]
    assert ["not usable" in told[0], "no rows" in told[1]] == [True, True]


def test_what_cannot_be_planned_is_said(
    table: DataFrame, mlp: Model, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="again must be 0 to 1"):
        kvspark.measured_plan(table, mlp, cache=cache, again=2.0)
    with pytest.raises(UsageError, match="nothing to plan"):
        kvspark.measured_plan(table, mlp, cache=None)  # type: ignore[arg-type]
    monkeypatch.setattr(frame_plan, "is_connect", lambda spark: True)
    with pytest.raises(UsageError, match="Spark Connect"):
        kvspark.measured_plan(table, mlp, cache=cache)
