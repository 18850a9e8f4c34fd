"""Whatever a plan is, and wherever it came from: the bits are those of a run without a cache.

measured plan   of a job: from a conf, by `kvspark.run`, on the command line; where the store is fast, and where it is not
resting         a stage whose store is left alone after a few rows
short calls     the last rows of a group in a call of fewer rows than the micro-batch
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import pytest
from pyspark.sql import SparkSession

import kvspark
from kvspark import cli
from kvspark.cache.stage import worth
from kvspark.config.job import JobConfig
from kvspark.infer.model import Model
from kvspark.infer.planning import measured_plan as planning
from kvspark.plan.plan import Plan, StagePlan
from kvspark.spark.check import decided
from kvspark.spark.runs.run_report import REPORT_FOLDER, RunReport, read_report
from kvspark.stats import RunStats
from tests.faults.proxy import FaultProxy
from tests.faults.wire import Delay
from tests.guarantees.conftest import rows_of
from tests.guarantees.sources import SOURCES, bits, output_of
from tests.guarantees.surfaces import Bits, Surface, by_job, by_score, by_udf, cache_of
from tests.redis_server import RedisAddress

pytestmark = [pytest.mark.spark, pytest.mark.redis]

PLAN_PROMISES = ("measured plan", "resting", "short calls")
PLAN_CELLS = {("measured plan", "job")} | {
    (promise, surface)
    for promise in ("resting", "short calls")
    for surface in ("predict", "score", "udf", "job")
}
_SAME_WORKER = (
    "a worker of Connect has the predictor that score and udf have here, with the same plan"
)
PLAN_REASONS = {
    **{
        (
            "measured plan",
            surface,
        ): "has no run to measure for, and goes by rule (`bits`), or by the plan that "
        "kvspark.measured_plan gives: tests/spark/test_measured_plan.py"
        for surface in ("predict", "score", "udf", "connect")
    },
    ("resting", "connect"): _SAME_WORKER,
    ("short calls", "connect"): _SAME_WORKER,
}
"""Cells without a test of their own, and why."""

SOME = ("torch", "pretrained")
"""Sources on every surface; all of them by `predict`, which has the predictor of all surfaces."""


@final
@dataclass(frozen=True)
class Source:
    """One source of models, and a server that has nothing of it."""

    name: str
    model: Model
    right: Bits
    """The bits of its rows without a cache."""
    redis: RedisAddress

    @property
    def last(self) -> str:
        return self.model.stages[-1].name

    def made(self, surface: Surface, url: str) -> Bits:
        """The bits that `surface` gives with a cache at `url`."""
        kind = SOURCES[self.name].type
        return surface(self.model, output_of(self.name), rows_of(self.name), kind, url)

    def predicted(self, plan: Plan) -> tuple[Bits, RunStats]:
        """The bits of the rows, two a call, and what was counted."""
        cache, rows = cache_of(self.model, self.redis.url), rows_of(self.name)
        parts = [rows[start : start + 2] for start in range(0, len(rows), 2)]

        def by_plan(part: list[object]) -> Bits:
            columns = {self.model.inputs[0].name: part}
            made = self.model.predict(columns, cache=cache, plan=plan, threads=1, on_bad_row="null")
            return [bits(value) for value in made[output_of(self.name)]]

        return [one for part in parts for one in by_plan(part)], cache.stats()


@pytest.fixture
def source(
    request: pytest.FixtureRequest,
    models: dict[str, Model],
    right: dict[str, Bits],
    redis: RedisAddress,
) -> Source:
    redis.ask("FLUSHALL")
    return Source(request.param, models[request.param], right[request.param], redis)


every_source = pytest.mark.parametrize("source", SOURCES, indirect=True)
some_sources = pytest.mark.parametrize("source", SOME, indirect=True)


class Reports(list[RunReport]):
    """Of the jobs that ran."""

    def by_run(self, conf: JobConfig, spark: SparkSession) -> None:
        self.append(kvspark.run(conf, spark=spark))

    def by_command(self, conf: JobConfig, spark: SparkSession) -> None:
        del spark  # which the command finds
        path = Path(conf.output.path).parent / "conf.json"
        path.write_text(json.dumps(conf.model_dump(mode="json", exclude_defaults=True)))
        assert cli.run(["score", str(path)]) == 0
        report = read_report(Path(conf.output.path) / REPORT_FOLDER)
        assert report is not None
        self.append(report)


@every_source
def test_a_measured_plan_gives_the_bits_of_a_run_without_a_cache(
    source: Source, spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decided, "LEAST_ROWS", 1)
    reports = Reports()
    for row_s, by in ((0.0, reports.by_run), (0.0, reports.by_command), (9.0, reports.by_command)):

        def of_store(cost: Any, stage: Any, *_: Any, seconds: float = row_s, **__: Any) -> Any:
            size = stage.codec.bytes_per_row or 1
            return replace(cost, lookup_s=seconds, insert_s=seconds, entry_bytes=size)

        monkeypatch.setattr(planning, "with_store_cost", of_store)
        assert source.made(by_job(spark, tmp_path, runs=by), source.redis.url) == source.right
    cached = [report.plan.cached[source.last] for report in reports if report.plan is not None]
    assert cached == [True, True, False]
    cold, warm, slow = (report.stats.stages[source.last] for report in reports)
    assert cold.bytes_written > 0
    assert warm.hits > 0
    assert slow.lookups == 0


@every_source
def test_a_stage_that_rests_gives_the_bits_of_one_without_a_cache(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worth, "LIMIT_S", 0.0)
    monkeypatch.setattr(worth, "SHARE", 0.0)
    monkeypatch.setattr(worth, "COMES_AGAIN", 0.0)
    made, stats = source.predicted(Plan())
    assert made == source.right
    assert stats.stages[source.last].rested > 0
    assert stats.rests[source.last].reasons.keys() == {"owes"}


@pytest.fixture
def a_row_a_batch(spark: SparkSession) -> Iterator[None]:
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "1")
    yield
    spark.conf.unset("spark.sql.execution.arrow.maxRecordsPerBatch")


@pytest.mark.usefixtures("a_row_a_batch")
@pytest.mark.parametrize("surface", ["score", "udf", "job"])
@some_sources
def test_a_stage_that_rests_in_a_worker_gives_the_bits_of_one_without_a_cache(
    source: Source, surface: str, spark: SparkSession, tmp_path: Path
) -> None:
    """Two look-ups of a row that take 0.3 s each are enough."""
    reports = Reports()
    with FaultProxy(source.redis.port, Delay(0.3)) as proxy:
        cache = cache_of(source.model, proxy.url)
        ways = {
            "score": by_score(spark, cache=cache),
            "udf": by_udf(spark, cache=cache),
            "job": by_job(spark, tmp_path, runs=reports.by_run),
        }
        assert source.made(ways[surface], proxy.url) == source.right
    stats = reports[0].stats if surface == "job" else cache.stats()
    assert stats.stages[source.last].rested > 0
    assert stats.rests[source.last].reasons.keys() == {"owes"}
    assert stats.degraded == frozenset()


def in_short_calls(model: Model) -> Plan:
    """Every row is computed; the cache keeps what trials have found."""
    return Plan({stage.name: StagePlan(cached=False) for stage in model.stages}, short_calls=True)


def filled_up(stats: RunStats) -> int:
    """Dummy rows."""
    return sum(stage.padding_rows for stage in stats.stages.values())


@every_source
def test_short_calls_give_the_bits_of_whole_ones(source: Source) -> None:
    plan = in_short_calls(source.model)
    tried, known = source.predicted(plan), source.predicted(plan)
    assert tried[0] == known[0] == source.right
    assert filled_up(known[1]) < filled_up(tried[1]) or source.name not in SOME


@pytest.mark.parametrize("surface", ["score", "udf", "job"])
@some_sources
def test_short_calls_in_a_worker_give_the_bits_of_whole_ones(
    source: Source, surface: str, spark: SparkSession, tmp_path: Path
) -> None:
    reports, filled = Reports(), []
    for is_short in (False, True, True):  # a worker that has not tried it yet does so first
        plan = replace(in_short_calls(source.model), short_calls=is_short)
        conf = {"mode": "off", "short_calls": is_short}
        cache = cache_of(source.model, source.redis.url)
        ways = {
            "score": by_score(spark, plan=plan, cache=cache),
            "udf": by_udf(spark, plan=plan, cache=cache),
            "job": by_job(spark, tmp_path, plan=conf, runs=reports.by_run),
        }
        assert source.made(ways[surface], source.redis.url) == source.right
        filled.append(filled_up(reports[-1].stats if surface == "job" else cache.stats()))
    assert filled[2] < filled[0]
