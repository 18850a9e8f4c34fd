"""A run caches what pays, by what was measured before it, and says so; the rows are the same."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from kvspark import cli
from kvspark.cache.cache import Cache
from kvspark.config.job import JobConfig
from kvspark.config.plan import ExpectConfig, PlanConfig
from kvspark.errors import CacheRequiredError, DataError, UsageError
from kvspark.infer.model import Model
from kvspark.infer.planning import measured_plan as planning
from kvspark.infer.resolve.compiled_plan import CompiledStage
from kvspark.plan.costs import Expectation, StageCost
from kvspark.plan.table import PlanTable
from kvspark.report.plan_table import print_plan
from kvspark.spark.check import decided
from kvspark.spark.jobs.job import run_score
from kvspark.spark.jobs.plan_job import plan_job
from kvspark.spark.runs import registry_update
from kvspark.spark.runs.expected_runs import expected_runs, other_seconds
from kvspark.spark.runs.history import PastRun
from kvspark.spark.runs.run_report import REPORT_FOLDER, RunReport, read_report
from kvspark.stats import RunStats, StageStats
from tests.redis_server import RedisAddress, running_redis
from tests.spark.small_jobs import job, published, write_night


@pytest.fixture
def folder(tmp_path: Path, mlp: Model) -> Path:
    mlp.save(tmp_path / "model")
    write_night(tmp_path / "night")
    return tmp_path


@pytest.fixture
def every_run_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decided, "LEAST_ROWS", 1)


@pytest.fixture
def slow_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes a second for each row."""

    def given(
        cost: StageCost, stage: CompiledStage, cache: Cache, *, row_bytes: int
    ) -> StageCost | None:
        del cache, row_bytes
        size = stage.codec.bytes_per_row
        return replace(cost, lookup_s=1.0, fetch_s=1.0, insert_s=1.0, entry_bytes=size)

    monkeypatch.setattr(planning, "with_store_cost", given)


def on(folder: Path, server: RedisAddress, namespace: str, **plan: object) -> JobConfig:
    cache = {"url": server.url, "namespace": namespace, "timeout_ms": 5_000}
    return job(folder, folder / "night", cache=cache, plan=plan)


@pytest.mark.spark
@pytest.mark.usefixtures("every_run_is_measured", "slow_store")
def test_a_store_that_is_slower_than_the_model_is_not_asked(
    spark: SparkSession, folder: Path, redis_server: RedisAddress
) -> None:
    config = on(folder, redis_server, "slow")
    report = run_score(config, spark=spark)
    rows = published(folder / "out")
    stages = report.stats.stages
    assert {stage.lookups for stage in stages.values()} == {0}
    assert stages["output"].bytes_written == 0
    assert report.plan is not None
    assert report.plan.cached == {"trunk": False, "output": False}
    assert "fetching costs 2,000,000 us, computing" in report.plan.stages[1].why
    assert read_report(folder / "out" / REPORT_FOLDER) == replace(
        report,
        seconds=read_report(folder / "out" / REPORT_FOLDER).seconds,  # type: ignore[union-attr]
    )

    pinned = on(folder, redis_server, "slow", stages={"output": {"cached": True}})
    again = run_score(pinned, spark=spark)
    assert again.stats.stages["output"].lookups == 200
    assert again.stats.stages["trunk"].lookups == 0
    assert published(folder / "out").equals(rows)

    ruled = run_score(on(folder, redis_server, "slow", mode="rule"), spark=spark)
    assert ruled.plan is None
    assert ruled.stats.stages["output"].hits == 200
    assert published(folder / "out").equals(rows)

    off = run_score(on(folder, redis_server, "slow", mode="off"), spark=spark)
    assert {stage.lookups for stage in off.stats.stages.values()} == {0}
    assert published(folder / "out").equals(rows)


@pytest.mark.spark
def test_a_run_of_few_rows_goes_by_rule(
    spark: SparkSession, folder: Path, redis_server: RedisAddress
) -> None:
    report = run_score(on(folder, redis_server, "few"), spark=spark)
    assert report.plan is None
    assert report.stats.stages["output"].lookups == 200


@pytest.mark.spark
@pytest.mark.parametrize(
    ("conf", "cached", "why"),
    [
        ({}, True, "; by rule, which decides for fewer than 10,000 rows"),
        ({"mode": "rule"}, True, "; by rule"),
        ({"mode": "off"}, False, "; as plan.mode says"),
        ({"stages": {"output": {"cached": False}}}, False, "; as plan.stages.output says"),
    ],
)
@pytest.mark.usefixtures("slow_store")
def test_a_plan_is_that_of_its_run_where_nothing_is_measured(
    spark: SparkSession,
    folder: Path,
    redis_server: RedisAddress,
    conf: dict[str, object],
    cached: bool,
    why: str,
) -> None:
    config = on(folder, redis_server, folder.name, **conf)
    table = plan_job(config, spark=spark)
    assert table.cached["output"] == cached
    assert table.stages[-1].why.endswith(why)
    stats = run_score(config, spark=spark).stats.stages
    assert {name: stage.lookups > 0 for name, stage in stats.items()} == table.cached


@pytest.mark.spark
def test_what_rows_took_in_a_run_is_known_to_the_next_one(
    spark: SparkSession,
    folder: Path,
    redis_server: RedisAddress,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry_update, "MEASURED_ROWS", 100)
    config = on(folder, redis_server, "learned", mode="off")
    stats = run_score(config, spark=spark).stats.stages["output"]
    took_s = stats.seconds_compute / (stats.computed + stats.padding_rows)
    table = plan_job(config, spark=spark)
    assert table.other_s is not None
    assert table.other_s > 0
    assert table.stages[1].compute_us == pytest.approx(1e6 * took_s)


@pytest.mark.spark
def test_a_plan_is_shown_and_nothing_is_published(
    spark: SparkSession,
    folder: Path,
    redis_server: RedisAddress,
    capsys: pytest.CaptureFixture[str],
) -> None:
    del spark  # the session that the command finds
    config = on(folder, redis_server, "shown")
    conf = folder / "conf.json"
    conf.write_text(json.dumps(config.model_dump(mode="json", exclude_defaults=True)))
    assert cli.run(["plan", str(conf), "--json"]) == 0
    table = PlanTable.from_json(json.loads(capsys.readouterr().out))
    assert [stage.name for stage in table.stages] == ["trunk", "output"]
    assert (table.rows, table.workers) == (200, 2)
    assert cli.run(["plan", str(conf)]) == 0
    told = capsys.readouterr().out
    assert "fetching costs" in told
    assert "200 rows, 2 workers" in told
    assert {path.name for path in folder.iterdir()} == {"model", "night", "conf.json"}


@pytest.mark.spark
def test_a_plan_of_a_store_that_is_away_is_one_line(spark: SparkSession, folder: Path) -> None:
    away = {"url": "redis://127.0.0.1:1", "namespace": "away", "timeout_ms": 50}
    with pytest.raises(CacheRequiredError, match=r"does not answer \(.*nothing was written"):
        plan_job(job(folder, folder / "night", cache=away), spark=spark)


@pytest.mark.spark
@pytest.mark.usefixtures("every_run_is_measured")
def test_a_plan_and_a_run_beside_a_full_store_look_up_what_is_there(
    spark: SparkSession, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = run_score(job(folder, folder / "night"), spark=spark)
    rows = published(folder / "out")
    with running_redis("--maxmemory-policy", "noeviction") as server:
        config = on(folder, server, "full", stages={"output": {"cached": True}})
        run_score(config, spark=spark)
        server.ask("CONFIG", "SET", "maxmemory", "1")
        table = plan_job(config, spark=spark)
        print_plan(table)
        report = run_score(config, spark=spark)
    assert table.trouble == "full"
    assert table.stages[-1].hit_rate > 0.9
    told = " ".join(capsys.readouterr().out.split())
    assert "what is there is looked up, and nothing is inserted" in told
    assert report.plan is not None
    assert report.plan.trouble == "full"
    assert report.degraded == {"full"}
    assert report.stats.stages["output"].hits == 200
    assert alone.rows_out == report.rows_out
    assert published(folder / "out").equals(rows)


@pytest.mark.spark
def test_a_plan_of_no_rows_is_one_line(
    spark: SparkSession, folder: Path, redis_server: RedisAddress
) -> None:
    cache = {"url": redis_server.url, "namespace": "none"}
    night = {"paths": [str(folder / "night")], "filter": "id < 0"}
    config = job(folder, folder / "night", cache=cache, input=night)
    with pytest.raises(
        DataError, match=r"no plan: no rows in .*; nothing was written, plan with a table"
    ):
        plan_job(config, spark=spark)


def test_a_conf_without_a_cache_has_nothing_to_plan(folder: Path) -> None:
    with pytest.raises(UsageError, match="no cache"):
        plan_job(job(folder, folder / "night"))


def past(fingerprint: str, lookups: int, hits: int, state: str = "published") -> PastRun:
    stage = {"fingerprint": fingerprint, "lookups": lookups, "hits": hits, "computed": 0}
    stages = {"trunk": {**stage, "lookups": 0}, "output": stage}
    return PastRun("r", "2026-01-01", fingerprint=fingerprint, stages=stages, state=state)


def test_what_is_expected_is_what_the_conf_says_until_the_history_knows() -> None:
    config = ExpectConfig(again=0.7, retrained=0.2, runs=3)
    assert expected_runs(config, []) == Expectation(0.7, 0.2, 3)
    assert expected_runs(config, [past("a", 100, 0)]) == Expectation(0.7, 0.2, 3)


def test_the_history_says_how_many_rows_come_again_and_how_often_a_head_is_another() -> None:
    runs = [past("a", 100, 0), past("a", 100, 90), past("b", 100, 0), past("b", 100, 97)]
    found = expected_runs(ExpectConfig(), runs)
    assert found.again == pytest.approx((0.9 + 0.97 + 0.5) / 3)
    assert found.retrained == pytest.approx((1 + 0.1) / 4)
    failed = [*runs, past("c", 100, 1, state="failed")]
    assert expected_runs(ExpectConfig(), failed) == found


def test_one_night_on_an_emptied_store_does_not_end_caching() -> None:
    good = [past("a", 100, 0), *[past("a", 100, 99)] * 3]
    emptied = expected_runs(ExpectConfig(), [*good, past("a", 100, 0)])
    assert emptied.again == pytest.approx((3 * 0.99 + 0.5) / 5)
    away = replace(past("a", 100, 0), degraded=("timeout",))
    assert expected_runs(ExpectConfig(), [*good, away]) == expected_runs(
        ExpectConfig(), [*good, past("a", 0, 0)]
    )
    assert expected_runs(ExpectConfig(), [past("a", 100, 0), past("a", 100, 0)]).again > 0


def test_what_a_run_takes_besides_grows_with_its_rows_where_it_scores() -> None:
    counted = StageStats(seconds_compute=6.0, seconds_lookup=1.0, seconds_insert=1.0)
    stages = {"output": replace(counted, seconds_opened=2.0)}
    before = RunReport(
        run_id="r",
        name="n",
        logical_date=None,
        started_at="",
        model="m",
        fingerprint="",
        output="/out",
        inputs=(),
        rows_in=1_000,
        rows_out=1_000,
        input_files=1,
        empty_input_files=0,
        output_files=1,
        output_bytes=1,
        stages=(),
        stats=RunStats(1_000, stages),
        cache=None,
        seconds={"open": 3.0, "preflight": 4.0, "score": 10.0, "validate": 0.5},
        seconds_saved=None,
    )
    found = partial(other_seconds, passed_s=1.0, rows=2_000, workers=2)
    scoring_s = 10.0 - (8.0 + 2.0) / 2
    assert found(before, computes=True) == 1.0 + 2.0 / 2 + 2 * scoring_s + 0.5
    assert found(before, computes=False) == 1.0 + 2 * scoring_s + 0.5
    assert found(None, computes=True) is None


def test_a_bare_off_in_yaml_is_the_word() -> None:
    assert PlanConfig.model_validate({"mode": False}).mode == "off"
