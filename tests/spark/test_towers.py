"""Pairs of users and items: each tower runs once for each of its own rows, however many pairs there are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

import kvspark
from kvspark.cache.cache import Cache
from kvspark.errors import UsageError
from kvspark.infer.model import Model
from kvspark.plan.plan import Plan, StagePlan
from kvspark.spark.runs.tally import Tally
from kvspark.stats import StageStats
from tests.redis_server import PATIENT_MS, running_redis
from tests.spark.conftest import features

pytestmark = [pytest.mark.spark, pytest.mark.redis]

USERS, ITEMS = 1_000, 100
FIRST = Plan(distinct_first=("user", "item"))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running_redis() as server:
        yield server.url


@pytest.fixture(scope="module")
def pairs(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> DataFrame:
    """All pairs, in four files and in no order."""
    users = [(i, row.tolist()) for i, row in enumerate(features(USERS, 8, seed=1))]
    items = [(i, row.tolist()) for i, row in enumerate(features(ITEMS, 6, seed=2))]
    users_df = spark.createDataFrame(users, "user_id long, user array<float>")
    items_df = spark.createDataFrame(items, "item_id long, item array<float>")
    every = users_df.crossJoin(items_df).withColumn(
        "id", F.col("user_id") * F.lit(ITEMS) + F.col("item_id")
    )
    path = str(tmp_path_factory.mktemp("pairs"))
    every.repartition(4, F.xxhash64("id")).write.mode("overwrite").parquet(path)
    return spark.read.parquet(path)


def scored(
    pairs: DataFrame, towers: Model, cache: Cache | None, plan: Plan | None = None
) -> tuple[bytes, dict[str, StageStats], frozenset[str]]:
    """The outputs' bits in the order of the ids, and what was counted."""
    tally = Tally(pairs.sparkSession)
    df = kvspark.score(pairs, towers, cache=cache, plan=plan, stats=tally)
    rows = df.select("id", "output").toArrow().sort_by("id")
    assert rows.num_rows == tally.stats.rows == USERS * ITEMS
    bits = rows["output"].to_numpy().astype("<f4").tobytes()
    return bits, dict(tally.stats.stages), tally.stats.degraded


def computed(stages: dict[str, StageStats]) -> dict[str, int]:
    return {name: stage.computed for name, stage in stages.items()}


def test_two_workers_compute_each_user_and_each_item_once(
    pairs: DataFrame, towers: Model, url: str
) -> None:
    cache = Cache.connect(url, namespace="once", timeout_ms=5_000)
    plain, _, _ = scored(pairs, towers, None)
    first, cold, _ = scored(pairs, towers, cache, FIRST)
    again, warm, _ = scored(pairs, towers, cache, FIRST)
    assert first == plain
    assert again == plain
    assert computed(cold) == {"user": USERS, "item": ITEMS, "output": USERS * ITEMS}
    assert computed(warm) == {"user": 0, "item": 0, "output": USERS * ITEMS}


def test_without_a_cache_a_worker_computes_its_towers_once(pairs: DataFrame, towers: Model) -> None:
    forgetful, _, _ = scored(pairs, towers, None, Plan(memo_bytes=0))
    bits, stages, _ = scored(pairs, towers, None, Plan(max_pending_rows=1_000))
    assert bits == forgetful
    # Two workers, or three, if Spark lets one go; not one for each of a hundred windows.
    assert stages["item"].computed <= 3 * ITEMS
    assert stages["user"].computed <= 3 * USERS
    assert stages["item"].recalled > 0


def test_a_joint_of_towers_that_costs_less_than_a_lookup_is_not_looked_up(
    pairs: DataFrame, towers: Model, url: str
) -> None:
    cache = Cache.connect(url, namespace="joint", timeout_ms=5_000)
    _, stages, _ = scored(pairs.where("user_id < 1000"), towers, cache)
    assert stages["output"].lookups == 0
    assert stages["output"].bytes_written == 0
    plan = Plan({"output": StagePlan(cached=True)})
    assert towers.bundle.stages[-1].name == "output"
    assert Plan().for_bundle(towers.bundle).stages["output"] == StagePlan(cached=False)
    assert plan.for_bundle(towers.bundle).stages["output"] == StagePlan(cached=True)
    without_towers = Plan({"user": StagePlan(cached=False), "item": StagePlan(cached=False)})
    assert without_towers.for_bundle(towers.bundle).stages["output"] == StagePlan(cached=True)


def test_nothing_is_computed_before_somebody_asks(
    pairs: DataFrame, towers: Model, url: str
) -> None:
    cache = Cache.connect(url, namespace="lazy", timeout_ms=PATIENT_MS)
    tally = Tally(pairs.sparkSession)
    kvspark.score(pairs, towers, cache=cache, plan=FIRST, stats=tally)
    assert tally.stats.stages == {}


def test_a_cache_that_is_not_there_changes_nothing_but_the_time(
    pairs: DataFrame, towers: Model
) -> None:
    absent = Cache.connect("redis://127.0.0.1:1", namespace="absent")
    plain, _, _ = scored(pairs, towers, None)
    bits, _, degraded = scored(pairs, towers, absent, FIRST)
    assert bits == plain
    assert degraded


def test_a_null_is_told_by_the_scoring_itself(
    spark: SparkSession, towers: Model, url: str, tmp_path: Path
) -> None:
    cache = Cache.connect(url, namespace="null", timeout_ms=PATIENT_MS)
    rows = [(0, None, [0.0] * 6), (1, [0.0] * 8, [0.0] * 6)]
    df = spark.createDataFrame(rows, "id long, u array<float>, item array<float>")
    scored_df = kvspark.score(df, towers, inputs={"user": "u"}, cache=cache, plan=FIRST)
    with pytest.raises(Exception, match=r"row 0 of partition 0: .*column 'u' is null"):
        scored_df.collect()


def test_zeros_of_both_signs_keep_their_bits(spark: SparkSession, towers: Model, url: str) -> None:
    """Spark takes them for one value where it looks for distinct ones."""
    cache = Cache.connect(url, namespace="zeros", timeout_ms=PATIENT_MS)
    rows = [(0, [-0.0] * 8, [1.0] * 6), (1, [0.0] * 8, [1.0] * 6)]
    df = spark.createDataFrame(rows, "id long, user array<float>, item array<float>").coalesce(1)
    first = kvspark.score(df, towers, cache=cache, plan=FIRST).toArrow()["output"].to_numpy()
    plain = kvspark.score(df, towers).toArrow()["output"].to_numpy()
    assert np.asarray(first, "<f4").tobytes() == np.asarray(plain, "<f4").tobytes()


def test_only_a_cached_stage_can_come_first(pairs: DataFrame, towers: Model, url: str) -> None:
    cache = Cache.connect(url, namespace="refused", timeout_ms=PATIENT_MS)
    for plan in (
        Plan(distinct_first=("tower",)),
        Plan({"item": StagePlan(cached=False)}, distinct_first=("item",)),
    ):
        with pytest.raises(UsageError, match=r"distinct_first names '(tower|item)'"):
            kvspark.score(pairs, towers, cache=cache, plan=plan)
