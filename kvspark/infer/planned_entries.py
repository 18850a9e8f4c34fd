"""The entries of the stages that a plan caches."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from kvspark.cache.admission import admitted
from kvspark.cache.entries import Entries, KeySpaces
from kvspark.cache.look_ahead import AheadEntries, LookAhead
from kvspark.infer.budget import VARYING_BYTES
from kvspark.infer.plan import Plan
from kvspark.infer.stage_codec import lossy_identity, stage_codec
from kvspark.model.bundle import Bundle
from kvspark.model.numerics import place_of
from kvspark.model.stage import Stage


def planned_entries(
    bundle: Bundle,
    plan: Plan,
    cache: KeySpaces | None,
    ahead: LookAhead | None,
    turned_away: Callable[[Stage, int], None],
    *,
    threads: int,
    device: str,
) -> dict[str, Entries]:
    """The entries in `cache` of each stage of `bundle` that `plan`, which names all, caches; none without one.

    `ahead` looks them up. `turned_away` is told how many rows of a stage were computed and not written.
    """
    if cache is None:
        return {}
    stages = {stage.name: stage for stage in bundle.stages}
    codecs = {name: planned.codec for name, planned in plan.stages.items()}
    entries: dict[str, Entries] = {}
    for stage in bundle.stages:
        planned, codec = plan.stages[stage.name], stage_codec(stage, codecs[stage.name])
        if planned.cached:
            identity = stage.fingerprint + place_of(stage, threads, device)
            identity += lossy_identity(stage, stages, codecs)
            stored = cache.keyspace(identity, codec.specs, codec=codec.store_codec)
            space = admitted(stored, planned.share, partial(turned_away, stage))
            if ahead is not None:
                reads = admitted(ahead.guarding(stored), planned.share)
                row_bytes = codec.bytes_per_row or VARYING_BYTES
                space = AheadEntries(space, reads, ahead, row_bytes=row_bytes)
            entries[stage.name] = space
    return entries
