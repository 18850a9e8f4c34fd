"""The entries of the stages that a plan caches."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from kvspark.cache.stage.admission import admitted
from kvspark.cache.stage.overlap import Overlap
from kvspark.cache.stage.stage_cache import StageCache
from kvspark.cache.stage.stage_caches import StageCaches
from kvspark.cache.stage.watched import watched
from kvspark.cache.stage.worth import COMES_AGAIN, MADE_ANEW, Worth
from kvspark.infer.resolve.compiled_plan import CompiledPlan
from kvspark.model.run.numerics import place_of
from kvspark.model.stage.stage import Stage


def planned_entries(
    compiled: CompiledPlan,
    cache: StageCaches | None,
    overlap: Overlap | None,
    count: Callable[..., None],
    *,
    threads: int,
    device: str,
) -> dict[str, StageCache]:
    """The entries in `cache` of each stage that the plan caches; none without one.

    With an `overlap` rows are inserted beside the computation. `count` is told of a stage how many of its rows
    were `turned_away`: computed and not written.
    """
    if cache is None:
        return {}
    entries: dict[str, StageCache] = {}
    for name, each in compiled.stages.items():
        if each.plan.cached:
            identity = each.identity(place_of(each.stage, threads, device))
            specs, codec = each.codec.specs, each.codec.store_codec
            keyspace = partial(cache.keyspace, identity, specs, codec=codec)
            worth = Worth(again=_again(compiled, each.stage)) if compiled.plan.watch else None
            stored = watched(keyspace(), worth)
            if overlap is not None:
                # Inside of it, so that a call is counted once, by the thread that makes it.
                beside = watched(keyspace(guard=overlap.guard), worth)
                stored = overlap.around(stored, beside, name)
            entries[name] = admitted(stored, each.plan.share, _turned_away(count, each.stage))
    return entries


def _again(compiled: CompiledPlan, stage: Stage) -> float:
    """The chance that an entry of `stage` spares its computation in the next run."""
    behind = [
        name
        for name, each in compiled.stages.items()
        if each.plan.cached
        and name != stage.name
        and stage.name in each.lineage
        and set(each.stage.inputs) == set(stage.inputs)
    ]
    return COMES_AGAIN * MADE_ANEW if behind else COMES_AGAIN


def _turned_away(count: Callable[..., None], stage: Stage) -> Callable[[int], None]:
    return lambda rows: count(stage, turned_away=rows)
