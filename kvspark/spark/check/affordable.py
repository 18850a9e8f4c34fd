"""How much of each stage a run remembers, where its cache has a budget."""

from __future__ import annotations

import logging

from kvspark.config.job import JobConfig
from kvspark.infer.resolve.budget import within_budget
from kvspark.infer.resolve.compiled_plan import CompiledPlan

log = logging.getLogger(__name__)


def affordable(config: JobConfig, compiled: CompiledPlan, *, rows: int) -> CompiledPlan:
    """`compiled` with the shares that the cache's budget affords, where it has one."""
    budget_bytes = None if config.cache is None else config.cache.budget_bytes
    if budget_bytes is None:
        return compiled
    chosen = {name for name, stage in config.plan.stages.items() if stage.share is not None}
    plan = within_budget(
        compiled.plan,
        compiled.bundle.stages,
        rows=rows,
        budget_bytes=budget_bytes,
        chosen=chosen,
    )
    for name, stage in plan.stages.items():
        if stage.cached and stage.share < 1:
            log.info(
                "stage %s: by rule %.0f %% of its rows fit into the cache's budget",
                name,
                100 * stage.share,
            )
    return CompiledPlan.of(compiled.bundle, plan)
