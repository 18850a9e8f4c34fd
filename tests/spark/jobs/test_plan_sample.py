"""A plan is measured on rows from all places of a table: of one that is sorted and grows, the first rows are like no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from kvspark.cache.cache import Cache
from kvspark.infer.model import Model
from kvspark.infer.predict.predictor import Predictor
from kvspark.infer.resolve.compiled_plan import compiled_plan
from kvspark.plan.table import PlanTable
from kvspark.spark.check import plan_sample as sampling
from kvspark.spark.check import run_preflight
from kvspark.spark.check.plan_sample import plan_sample
from kvspark.spark.check.run_preflight import Sample
from kvspark.spark.columns.column_map import column_map
from kvspark.spark.jobs import planned
from kvspark.spark.jobs.plan_job import plan_job
from kvspark.spark.sources.input.source import Source
from tests.redis_server import PATIENT_MS, RedisAddress
from tests.spark.small_jobs import job

pytestmark = [pytest.mark.spark, pytest.mark.redis]

USERS, ROWS, FILES = 600, 12_000, 6


def lists(values: np.ndarray) -> pa.Array:
    ends = np.arange(len(values) + 1, dtype="int32") * values.shape[1]
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(values.ravel()))


@pytest.fixture
def folder(tmp_path: Path, towers: Model, redis_server: RedisAddress) -> Path:
    """Pairs, sorted by user, in files; a run has stored those of the first half of the users."""
    rng = np.random.default_rng(1)
    users, items = (rng.standard_normal((n, w)).astype("f4") for n, w in ((USERS, 8), (40, 6)))
    rows = np.arange(ROWS)
    pairs = pa.table(
        {
            "id": rows,
            "user": lists(users[rows * USERS // ROWS]),
            "item": lists(items[rng.integers(0, 40, ROWS)]),
        }
    )
    (tmp_path / "night").mkdir()
    for number in range(FILES):
        part = pairs.slice(number * ROWS // FILES, ROWS // FILES)
        pq.write_table(part, tmp_path / "night" / f"{number}.parquet")
    towers.save(tmp_path / "model")
    half = {name: pairs.slice(0, ROWS // 2)[name].combine_chunks() for name in ("user", "item")}
    cache = Cache.connect(redis_server.url, namespace=tmp_path.name, timeout_ms=PATIENT_MS)
    predictor = Predictor(compiled_plan(towers.bundle), cache=cache)
    predictor.predict(half)
    assert predictor.drain().stages["user"].computed == USERS // 2
    cache.close()
    return tmp_path


def planned_of(folder: Path, server: RedisAddress, spark: SparkSession, **more: Any) -> PlanTable:
    cache = {"url": server.url, "namespace": folder.name, "timeout_ms": PATIENT_MS}
    return plan_job(job(folder, folder / "night", cache=cache, **more), spark=spark)


def told(table: PlanTable) -> tuple[float, float]:
    """The hit rate that is expected of users, and how many of them there are said to be."""
    user = next(stage for stage in table.stages if stage.name == "user")
    return user.hit_rate, user.rows


def test_hits_and_distinct_rows_of_a_table_that_is_sorted_and_grows_are_foretold(
    spark: SparkSession, folder: Path, redis_server: RedisAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    hit_rate, users = told(planned_of(folder, redis_server, spark))
    assert hit_rate == pytest.approx(0.5, abs=0.15)
    assert users == pytest.approx(USERS, rel=0.25)

    # As Spark reads: a filter is between.
    monkeypatch.setattr(sampling, "_LEAST_S", 1.0)
    by_spark = planned_of(folder, redis_server, spark, input={"filter": "id >= 0"})
    assert told(by_spark)[0] == pytest.approx(0.5, abs=0.25)
    assert told(by_spark)[1] == pytest.approx(USERS, rel=0.5)

    def first(_source: Source, _columns: object, sample: Sample, *_: object, **__: object) -> Any:
        from kvspark.infer.planning.sampled_rows import SampledRows

        return SampledRows.first(sample.arrays)

    monkeypatch.setattr(planned, "plan_sample", first)
    hit_rate, users = told(planned_of(folder, redis_server, spark))
    assert hit_rate > 0.9
    assert users < 0.2 * USERS


def test_rows_that_are_moved_between_tasks_first_are_not_made_for_a_sample(
    spark: SparkSession, towers: Model, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "_LEAST_S", 1.0)
    columns = column_map(towers.bundle, None, None)
    df = spark.read.parquet(str(folder / "night"))
    places = []
    for each in (df, df.repartition(4)):
        source = Source(each, ROWS)
        arrays, _ = run_preflight.first_rows(
            source, columns, compiled_plan(towers.bundle).plan, None, sets_aside=False
        )
        sample = Sample("", arrays=arrays)
        places.append(len(plan_sample(source, columns, sample, None, workers=2).places))
    assert places[0] > 1
    assert places[1] == 1
