"""The plan of a run: what the conf says, what the cache's budget affords, and what was measured."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

from kvspark.config.job import JobConfig
from kvspark.infer.resolve.compiled_plan import CompiledPlan
from kvspark.plan.table import PlanTable
from kvspark.spark.check.affordable import affordable
from kvspark.spark.jobs.prepared_run import PreparedRun
from kvspark.spark.runs.expected_runs import expected_runs
from kvspark.spark.runs.history import read_history

log = logging.getLogger(__name__)

LEAST_ROWS = 10_000
"""A run of fewer goes by rule: at 10 us a row and stage, what a wrong choice loses is less than 0.1 s."""


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
    if config.plan.mode != "measured" or made.source.rows < LEAST_ROWS:
        return Planned(made.compiled)
    table = measured_table(config, made, output)
    if table is None:
        return Planned(made.compiled)
    for stage in table.stages:
        if stage.bytes_a_row is not None:
            verdict = "cached" if stage.cached else "not cached"
            log.info("plan: %s %s, %s", stage.name, verdict, stage.why)
    return Planned(_with_table(config, made.compiled, table), table)


def measured_table(config: JobConfig, made: PreparedRun, output: Path) -> PlanTable | None:
    """What was measured of a run to `output`; None where nothing could be: no cache, no row, no GPU, no store."""
    sample, source = made.sample, made.source
    if made.cache is None or made.trouble is not None or not sample.arrays:
        return None
    from kvspark.infer.planning.measured_plan import PlannedRun, measured_plan

    pinned = {name: stage.cached for name, stage in config.plan.stages.items()}
    run = PlannedRun(
        source.rows,
        source.df.sparkSession.sparkContext.defaultParallelism,
        sample.compute_s,
        expected_runs(config.plan.expect, read_history(output)),
        pinned | dict.fromkeys(config.plan.distinct_first, True),
        sample.threads,
        made.compiled.device,
    )
    return measured_plan(made.compiled, sample.arrays, made.cache, run)


def _with_table(config: JobConfig, compiled: CompiledPlan, table: PlanTable) -> CompiledPlan:
    """`compiled` with the stages cached that `table` says, and their shares."""
    plan = compiled.plan
    stages = {n: replace(plan.stages[n], cached=c) for n, c in table.cached.items()}
    changed = CompiledPlan.of(compiled.bundle, plan.with_stages({**plan.stages, **stages}))
    return affordable(config, changed, rows=table.rows)
