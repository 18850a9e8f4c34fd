"""How much of each stage is remembered, where the store has less room than all rows would take."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from kvspark.cache.stage.admission import affordable_share, entry_memory_bytes
from kvspark.infer.resolve.stage_codec import stage_codec
from kvspark.model.stage.stage import Stage
from kvspark.plan.plan import Plan

VARYING_BYTES = 16 << 10
"""What a result of no fixed size is taken for."""


def within_budget(
    plan: Plan, stages: Collection[Stage], *, rows: int, budget_bytes: int, chosen: Collection[str]
) -> Plan:
    """`plan` with shares such that the entries of `rows` distinct rows take `budget_bytes` at most.

    One share for all cached stages, so that a row that is remembered at the trunk is remembered at
    the head. Stages in `chosen` keep the share that they have, and leave less for the others.
    """
    needed = {
        stage.name: rows
        * entry_memory_bytes(
            stage_codec(stage, plan.stages[stage.name].codec).bytes_per_row or VARYING_BYTES
        )
        for stage in stages
        if plan.stages[stage.name].cached
    }
    left_bytes = budget_bytes - sum(
        int(size_bytes * plan.stages[name].share)
        for name, size_bytes in needed.items()
        if name in chosen
    )
    free = [name for name in needed if name not in chosen]
    share = affordable_share(left_bytes, sum(needed[name] for name in free))
    if share > 0:
        shared = {name: replace(plan.stages[name], share=share) for name in free}
    else:
        shared = {name: replace(plan.stages[name], cached=False) for name in free}
    return plan.with_stages({**plan.stages, **shared})
