"""What the driver of a run reads from the namespace's registry before it, and adds to it afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kvspark.cache.cache import Cache
from kvspark.cache.namespace_registry import Use
from kvspark.infer.plan import Plan
from kvspark.model.stage import Stage
from kvspark.stats import RunStats, StageStats


def told_what_is_empty(plan: Plan, stages: Sequence[Stage], cache: Cache) -> Plan:
    """`plan` in which cached stages of which no run has written anything are said to be empty."""
    stocks = cache.registry().stocks()
    if stocks is None:
        return plan
    empty = {stage.name for stage in stages if stage.fingerprint not in stocks}
    told = {
        name: replace(stage, is_empty=stage.cached and name in empty)
        for name, stage in plan.stages.items()
    }
    return plan.with_stages(told)


def take_stock(stages: Sequence[Stage], stats: RunStats, cache: Cache) -> None:
    """Adds to the registry what the tasks of a run have counted; best effort."""
    uses: dict[bytes, Use] = {}
    for stage in stages:
        counted = stats.stages.get(stage.name, StageStats())
        if counted.lookups or counted.bytes_written:
            entries = counted.computed - counted.turned_away if counted.bytes_written else 0
            uses[stage.fingerprint] = Use(stage.name, entries, counted.bytes_written)
    cache.registry().add(uses)
