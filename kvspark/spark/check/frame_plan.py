"""The measured plan of a table that is not a job's: for `score` and `udf`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from pyspark.sql import DataFrame, SparkSession

from kvspark.cache.cache_argument import given_cache
from kvspark.config.reading.arguments import named_as_arguments
from kvspark.errors import UsageError
from kvspark.infer.planning import measured_plan as planning
from kvspark.infer.planning.sampled_rows import SampledRows
from kvspark.infer.resolve.compiled_plan import CompiledPlan, compiled_plan
from kvspark.plan.costs import Expectation
from kvspark.plan.plan import Plan
from kvspark.spark.check.plan_sample import plan_sample
from kvspark.spark.check.run_preflight import Sample, checked_sample
from kvspark.spark.columns.arguments import check_arguments, check_table
from kvspark.spark.columns.column_map import column_map
from kvspark.spark.columns.input_parts import InputOf
from kvspark.spark.columns.prepared import ready
from kvspark.spark.scoring.task_device import on_task_devices
from kvspark.spark.session.connect import is_connect
from kvspark.spark.sources.input.source import Source
from kvspark.store.trouble import FULL

if TYPE_CHECKING:
    from kvspark.cache.cache import Cache
    from kvspark.infer.model import Model

log = logging.getLogger(__name__)


@named_as_arguments()
def measured_plan(
    df: DataFrame,
    model: Model,
    *,
    cache: Cache | str,
    inputs: Mapping[str, InputOf] | None = None,
    plan: Plan | None = None,
    rows: int | None = None,
    again: float = 0.5,
    retrained: float = 0.1,
    runs: int = 1,
) -> Plan:
    """The plan with which `score(df, model, cache=cache, plan=...)` is expected to take least, every stage named.

    As a job does before it runs: the driver computes some of the first rows, looks up to 256 rows up in `cache`, and
    tries its store with random entries that are kept for a minute. Rows that cannot be scored are left out. Stages
    that `plan` names stay as they are named. `rows` is how many rows there are; without it they are counted, which
    reads the table. `again`, `retrained` and `runs` say what the next runs are like, as `plan.expect` of a conf.

    Where nothing can be measured, the plan is that of the rule, and the log says why: the store does not answer, no
    row can be scored, or tasks compute on GPUs and the driver has none.

    `plan.stages[name].why` says why a stage is as it is, in the words of `kvspark plan`; a notebook shows them in a table.

    Guarantees: whatever is measured, outputs have the same bits.

    Raises:
        SchemaError: a column is missing or has a type that the model does not take.
        NotRepeatableError: a stage gives other bits in another run or among other rows.
        UsageError: an argument is wrong, or the session is one of Spark Connect, where no driver measures.
        SecretError: the store refuses us.
    """
    check_table(df)
    check_arguments(model, plan=plan, inputs=inputs)
    spark, expect = df.sparkSession, Expectation(again, retrained, runs)
    _check_session(spark)
    opened = given_cache(cache, namespace=model.name)
    if opened is None:
        raise UsageError("without a cache there is nothing to plan: give one, or its URL")
    df, columns = ready(column_map(model.bundle, inputs, None), model.bundle, df)
    compiled = compiled_plan(on_task_devices(spark, model.bundle), plan)
    trouble = opened.check()
    if trouble not in (None, FULL):
        return _by_rule(compiled.plan, f"the store is not usable ({trouble})")
    source = Source(df, df.count() if rows is None else rows)
    sample = checked_sample(source, compiled, columns, opened, sets_aside=True)
    if not sample.arrays:
        return _by_rule(compiled.plan, sample.told)
    run = replace(
        _pinned_run(Plan() if plan is None else plan, sample, opened),
        rows=source.rows,
        workers=spark.sparkContext.defaultParallelism,
        expect=expect,
        device=compiled.device,
        trouble=trouble,
    )
    sampled = plan_sample(source, columns, sample, opened, workers=run.workers)
    return _measured(compiled, sampled, opened, run)


def _check_session(spark: SparkSession) -> None:
    if is_connect(spark):
        raise UsageError(
            "measured_plan measures on the driver, which a session of Spark Connect has not; call it in a classic "
            "session, or take the stages of `kvspark plan CONF` into kvspark.Plan"
        )


def _measured(
    compiled: CompiledPlan, sample: SampledRows, cache: Cache, run: planning.PlannedRun
) -> Plan:
    table = planning.measured_plan(compiled, sample, cache, run)
    if table is None:
        return _by_rule(compiled.plan, "the store does not answer")
    for stage in table.stages:
        if stage.bytes_a_row is not None:
            log.info("plan: %s %s, %s", stage.name, stage.verdict, stage.why)
    return table.applied_to(compiled.plan)


def _pinned_run(plan: Plan, sample: Sample, cache: Cache) -> planning.PlannedRun:
    """What is known of a run with `plan` before its rows are counted."""
    pinned = {name: stage.cached for name, stage in plan.stages.items()}
    pinned |= dict.fromkeys(plan.distinct_first, True)
    return planning.PlannedRun(
        rows=0,
        workers=1,
        compute_s=sample.compute_s,
        pinned=pinned,
        deciders=dict.fromkeys(pinned, "as the plan says"),
        budget_bytes=cache.config.budget_bytes,
        shares={name: stage.share for name, stage in plan.stages.items() if stage.share < 1},
        threads=sample.threads,
    )


def _by_rule(plan: Plan, why: str) -> Plan:
    log.warning("the plan is not measured, and goes by rule: %s", why)
    return plan
