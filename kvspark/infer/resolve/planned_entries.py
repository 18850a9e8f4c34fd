"""The entries of the stages that a plan caches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from kvspark.cache.stage.admission import admitted
from kvspark.cache.stage.overlap import Overlap
from kvspark.cache.stage.stage_cache import StageCache
from kvspark.cache.stage.stage_caches import StageCaches
from kvspark.infer.resolve.stage_codec import StageCodec, lossy_identity
from kvspark.model.bundle.bundle import Bundle
from kvspark.model.run.numerics import place_of
from kvspark.model.stage.stage import Stage
from kvspark.plan.plan import Plan


def planned_entries(
    bundle: Bundle,
    plan: Plan,
    codecs: Mapping[str, StageCodec],
    cache: StageCaches | None,
    overlap: Overlap | None,
    turned_away: Callable[[Stage, int], None],
    *,
    threads: int,
    device: str,
) -> dict[str, StageCache]:
    """The entries in `cache` of each stage of `bundle` that `plan`, which names all, caches; none without one.

    With an `overlap` rows are inserted beside the computation. `turned_away` is told how many rows of a stage were
    computed and not written.
    """
    if cache is None:
        return {}
    stages = {stage.name: stage for stage in bundle.stages}
    names = {name: planned.codec for name, planned in plan.stages.items()}
    entries: dict[str, StageCache] = {}
    for stage in bundle.stages:
        planned, codec = plan.stages[stage.name], codecs[stage.name]
        if planned.cached:
            identity = stage.fingerprint + place_of(stage, threads, device)
            identity += lossy_identity(stage, stages, names)
            keyspace = partial(cache.keyspace, identity, codec.specs, codec=codec.store_codec)
            stored = keyspace()
            if overlap is not None:
                stored = overlap.around(stored, keyspace(guard=overlap.guard), stage.name)
            entries[stage.name] = admitted(stored, planned.share, partial(turned_away, stage))
    return entries
