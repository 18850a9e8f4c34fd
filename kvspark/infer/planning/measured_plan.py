"""The plan of a run, chosen by what was measured: stages, store, and a sample of the rows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, final

from kvspark.cache.read_only import ReadOnly
from kvspark.infer.planning.sampled_rows import SampledRows, evenly
from kvspark.infer.planning.stage_rows import ASKED, stage_rows
from kvspark.infer.planning.store_cost import with_reading_cost, with_store_cost
from kvspark.infer.resolve.compiled_plan import CompiledPlan, CompiledStage
from kvspark.infer.resolve.resolve import Resolver
from kvspark.infer.rows.columns import Column
from kvspark.infer.rows.readable import readable
from kvspark.infer.rows.subject import bound, own_columns
from kvspark.model.run.device import CPU
from kvspark.plan.choice import choose_cached
from kvspark.plan.costs import Expectation, Night, StageCost
from kvspark.plan.shares import shares_within
from kvspark.plan.table import PlanTable, plan_table
from kvspark.stats import FORGETS
from kvspark.store.trouble import FULL

if TYPE_CHECKING:
    from kvspark.cache.cache import Cache


@final
@dataclass(frozen=True, slots=True)
class PlannedRun:
    """What is known of a run before it begins."""

    rows: int
    workers: int
    """Python workers that compute at one time."""
    compute_s: Mapping[str, float]
    """Seconds of a row at each stage, as the preflight has measured them."""
    expect: Expectation = field(default_factory=Expectation)
    pinned: Mapping[str, bool] = field(default_factory=dict)
    """Stages that are cached, or not, whatever it costs."""
    deciders: Mapping[str, str] = field(default_factory=dict)
    """What says so, in words, of each stage in `pinned`."""
    budget_bytes: int | None = None
    """Memory of the store for all entries; None without a limit."""
    shares: Mapping[str, float] = field(default_factory=dict)
    """Of stages that have a share of their own."""
    threads: int = 1
    device: str = CPU
    trouble: str | None = None
    """`full` if the store is known to take no entries."""


def measured_plan(
    compiled: CompiledPlan, sample: SampledRows, cache: Cache, run: PlannedRun
) -> PlanTable | None:
    """The plan with the least expected seconds for `run`, of whose rows there is a `sample`.

    Writes a window of entries for each stage that could be cached, which are kept for a minute, and looks some rows of
    the sample up. Where the store takes none, it is read alone, and the plan is one of a run that inserts nothing. None if the
    store does not answer, or there is no good row.
    """
    places = sample.place_of_row
    found = readable(sample.arrays, compiled.bundle.inputs, len(places))
    columns = bound(found, sample.arrays, cache)
    if not len(found.good):
        return None
    compiled = _all_cached(compiled)
    reading = Resolver(compiled, ReadOnly(cache), threads=run.threads, device=run.device)
    trouble = run.trouble
    costs = None if trouble else _costs(compiled, columns, run, _by_writing(cache))
    if costs is None:
        trouble = trouble or (FULL if FULL in cache.stats().degraded else FORGETS)
        few = evenly(len(found.good), ASKED)
        asked = {name: column.take(few) for name, column in columns.items()}
        costs = _costs(compiled, columns, run, _by_reading(reading, asked))
    if costs is None:
        return None
    rows = stage_rows(
        compiled,
        columns,
        places=places[found.good],
        rows=run.rows,
        workers=run.workers,
        reading=reading,
    )
    night = Night(compiled.bundle.stages, costs, rows, stores=trouble is None)
    cached = choose_cached(night, run.expect, run.pinned, run.shares)
    table = plan_table(
        night,
        _shares(night, cached, run),
        run.expect,
        rows=run.rows,
        workers=run.workers,
        deciders=run.deciders,
    )
    return replace(table, trouble=trouble)


Tried = Callable[[StageCost, CompiledStage, int], StageCost | None]
"""Adds to a stage's cost what the store takes for its rows, whose inputs have so many bytes; None if it gives no answer."""


def _by_writing(cache: Cache) -> Tried:
    return lambda cost, stage, row_bytes: with_store_cost(cost, stage, cache, row_bytes=row_bytes)


def _by_reading(reading: Resolver, columns: Mapping[str, Column]) -> Tried:
    def tried(cost: StageCost, stage: CompiledStage, row_bytes: int) -> StageCost | None:
        keys = reading.keyed(stage.stage, columns).keys
        space = reading.entries[stage.stage.name]
        return with_reading_cost(cost, stage, space, keys, row_bytes=row_bytes)

    return tried


def _costs(
    compiled: CompiledPlan, columns: Mapping[str, Column], run: PlannedRun, tried: Tried
) -> dict[str, StageCost] | None:
    """What a row of each stage takes; None if the store gives no answer."""
    costs: dict[str, StageCost] = {}
    for name, each in compiled.stages.items():
        costs[name] = cost = StageCost(run.compute_s.get(name, 0.0))
        if each.plan.cached:
            own = own_columns(each.stage, columns)
            probed = tried(cost, each, sum(c.size_bytes // len(c) for c in own.values()))
            if probed is None:
                return None
            costs[name] = probed
    return costs


def _shares(night: Night, cached: Collection[str], run: PlannedRun) -> dict[str, float]:
    given = {name: run.shares.get(name, 1.0) for name in cached}
    if run.budget_bytes is None:
        return given
    return shares_within(night, cached, run.expect, budget_bytes=run.budget_bytes, given=run.shares)


def _all_cached(compiled: CompiledPlan) -> CompiledPlan:
    """`compiled`, with every stage cached that has entries worth a look-up: no features, and no varying size.

    All of their rows are, and whatever it costs: what is there is to be seen.
    """
    plan, last = replace(compiled.plan, watch=False), compiled.bundle.stages[-1]
    stages = {
        name: replace(each.plan, cached=True, share=1.0)
        for name, each in compiled.stages.items()
        if each.stage is last or (each.stage.is_batched and each.stage.bytes_per_row is not None)
    }
    # What a trial takes is not what a row takes, and what it finds is not kept here.
    plan = replace(plan, short_calls=False)
    return CompiledPlan.of(compiled.bundle, plan.with_stages({**plan.stages, **stages}))
