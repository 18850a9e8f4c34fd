"""The plan of a run: what the conf says, what the cache's budget affords, and what was measured."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

from kvspark.config.job import JobConfig
from kvspark.errors import DataError
from kvspark.infer.resolve.compiled_plan import CompiledPlan
from kvspark.plan.plan import StagePlan
from kvspark.plan.table import PlanTable
from kvspark.spark.check.decided import is_measured, pinned_by
from kvspark.spark.check.plan_sample import plan_sample
from kvspark.spark.jobs.prepared_run import PreparedRun
from kvspark.spark.runs.expected_runs import expected_runs, other_seconds
from kvspark.spark.runs.history import read_history
from kvspark.spark.runs.run_report import REPORT_FOLDER, RunReport, read_report
from kvspark.store.trouble import FULL

log = logging.getLogger(__name__)


@final
@dataclass(frozen=True, slots=True)
class Planned:
    """What a run computes with, and why."""

    compiled: CompiledPlan
    table: PlanTable | None = None
    """What was measured; None where nothing was."""

    @property
    def told(self) -> str:
        """The stages that are cached."""
        names = [name for name, stage in self.compiled.plan.stages.items() if stage.cached]
        return f"cached: {', '.join(names) or 'nothing'}"


def planned(config: JobConfig, made: PreparedRun, output: Path) -> Planned:
    """The plan of a run to `output`; that of conf and rule where nothing is to be measured.

    What nobody has checked is not remembered, nor rounded: the first rows are bad, others may not be.
    """
    if made.sample.unchecked is not None:
        return Planned(made.compiled.uncached())
    if not is_measured(config, made.source.rows):
        return Planned(made.compiled)
    table = measured_table(config, made, output)
    if table is None:
        return Planned(made.compiled)
    for stage in table.stages:
        if stage.bytes_a_row is not None:
            log.info("plan: %s %s, %s", stage.name, stage.verdict, stage.why)
    compiled = made.compiled
    plan = table.applied_to(compiled.plan)
    return Planned(CompiledPlan.of(compiled.bundle, plan), table)


def measured_table(config: JobConfig, made: PreparedRun, output: Path) -> PlanTable | None:
    """What was measured of a run to `output`; None where nothing could be: no cache, no row, no GPU, no store.

    A store that is full is read, and the plan is that of a run that inserts nothing. Where the conf or the rule decides
    for a run of so many rows, the plan is theirs.

    Raises:
        DataError, SecretError: a file cannot be read.
    """
    sample, source = made.sample, made.source
    if made.cache is None or made.trouble not in (None, FULL) or not sample.arrays:
        return None
    from kvspark.infer.planning.measured_plan import PlannedRun, measured_plan

    workers = source.df.sparkSession.sparkContext.defaultParallelism
    rows = plan_sample(source, made.columns, sample, made.cache, workers=workers)
    stages = made.compiled.plan.stages
    deciders = pinned_by(config, stages, source.rows)
    run = PlannedRun(
        source.rows,
        workers,
        sample.compute_s,
        expected_runs(config.plan.expect, read_history(output)),
        {name: stages[name].cached for name in deciders},
        deciders,
        None if config.cache is None else config.cache.budget_bytes,
        _shares(config, stages, source.rows),
        sample.threads,
        made.compiled.device,
        made.trouble,
    )
    table = measured_plan(made.compiled, rows, made.cache, run)
    if table is None:
        return None
    before = _report_before(output)
    other_s = other_seconds(
        before,
        passed_s=made.passed_s,
        rows=run.rows,
        workers=run.workers,
        computes=table.computes,
    )
    return replace(table, other_s=other_s)


def _shares(config: JobConfig, stages: Mapping[str, StagePlan], rows: int) -> dict[str, float]:
    """The shares of stages that no measurement decides."""
    if not is_measured(config, rows):
        return {name: stage.share for name, stage in stages.items()}
    return {name: s.share for name, s in config.plan.stages.items() if s.share is not None}


def _report_before(output: Path) -> RunReport | None:
    try:
        return read_report(output / REPORT_FOLDER)
    except DataError:  # an estimate is not worth a failure
        return None
