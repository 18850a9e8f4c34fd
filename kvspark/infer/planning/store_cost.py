"""What the store takes for one row of a stage: entries of its size are written and read, or those there are read."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from kvspark.cache.stage.stage_cache import Lookup, StageCache
from kvspark.fingerprint import digest
from kvspark.infer.resolve.budget import VARYING_BYTES
from kvspark.infer.resolve.compiled_plan import CompiledStage
from kvspark.plan.costs import StageCost
from kvspark.spec import Rows, TensorSpec
from kvspark.store.windows import rows_at_once

if TYPE_CHECKING:
    from kvspark.cache.cache import Cache

KEPT_S = 60.0
"""How long the entries of a probe are kept."""

_TRIES = 3
"""The fastest counts: a first call connects."""
_LONG_S = 0.1
"""No other try follows one that took longer: what connecting takes is little of it, and a slow store makes a run wait."""

T = TypeVar("T")

_LENGTH = 64
"""What a varying dimension is taken for."""


def with_store_cost(
    cost: StageCost, stage: CompiledStage, cache: Cache, *, row_bytes: int
) -> StageCost | None:
    """`cost`, with what `cache` takes for rows of `stage` whose inputs have `row_bytes`.

    Writes one window of entries, which are kept for a minute, and reads it. None if the store does not answer.
    """
    count = rows_at_once(stage.codec.bytes_per_row or VARYING_BYTES)
    identity = digest("kvspark.probe", [stage.stage.fingerprint])
    life = min(1.0, KEPT_S / cache.config.ttl_s)
    space = cache.keyspace(identity, stage.codec.specs, codec=stage.codec.store_codec, life=life)
    columns = tuple(_results(spec, count) for spec in stage.codec.specs)
    times: list[tuple[float, float, float]] = []
    while len(times) < _TRIES and not (times and sum(times[-1]) > _LONG_S):
        tried = _tried(space, columns, count, row_bytes)
        if tried is None:
            return None
        times.append(tried)
    miss_s, hit_s, insert_s = np.min(times, axis=0) / count
    return replace(
        cost,
        lookup_s=float(miss_s),
        fetch_s=max(0.0, float(hit_s - miss_s)),
        insert_s=float(insert_s),
        entry_bytes=_entry_bytes(stage),
    )


def with_reading_cost(
    cost: StageCost,
    stage: CompiledStage,
    space: StageCache,
    digests: Sequence[bytes],
    *,
    row_bytes: int,
) -> StageCost | None:
    """`cost`, with what `space` takes to look up `digests`, some of which it may have; nothing is written.

    None if the store does not answer.
    """
    rows = [secrets.token_bytes(max(16, row_bytes)) for _ in digests]
    tries = range(_TRIES)
    names_s, none = min((_timed(lambda: space.digests(rows)) for _ in tries), key=_seconds)
    misses = [_timed(lambda: space.lookup(none)) for _ in tries]
    finds = [_timed(lambda: space.lookup(digests)) for _ in tries]
    if not all(lookup.is_answered for _, lookup in (*misses, *finds)):
        return None
    miss_s, (find_s, lookup) = min(map(_seconds, misses)), min(finds, key=_seconds)
    hits = int(lookup.found.sum())
    return replace(
        cost,
        lookup_s=(names_s + miss_s) / len(digests),
        fetch_s=max(0.0, find_s - miss_s) / hits if hits else 0.0,
        entry_bytes=_entry_bytes(stage),
    )


def _seconds(timed: tuple[float, object]) -> float:
    return timed[0]


def _entry_bytes(stage: CompiledStage) -> int:
    own = [_bytes_of(_results(spec, 1)) for spec in stage.codec.specs]
    return stage.codec.bytes_per_row or sum(own)


def _tried(
    space: StageCache, columns: tuple[Rows, ...], count: int, row_bytes: int
) -> tuple[float, float, float] | None:
    """Seconds of a look-up that finds nothing, of one that finds all, and of an insert; None if one fails."""
    rows = [secrets.token_bytes(max(16, row_bytes)) for _ in range(count)]
    digests = space.digests(rows)

    def found() -> Lookup:
        return space.lookup(space.digests(rows))

    miss_s, missed = _timed(found)
    insert_s, _ = _timed(lambda: space.insert(digests, columns, cost_us=0))
    hit_s, hit = _timed(found)
    is_answered = missed.is_answered and hit.is_answered and bool(hit.found.any())
    return (miss_s, hit_s, insert_s) if is_answered else None


def _timed(call: Callable[[], T]) -> tuple[float, T]:
    started = perf_counter()
    result = call()
    return perf_counter() - started, result


def _results(spec: TensorSpec, count: int) -> Rows:
    """Numbers that no codec makes smaller than those of a model."""
    rng = np.random.default_rng(0)
    shape = tuple(_LENGTH if dim is None else dim for dim in spec.shape)
    kind = spec.numpy_dtype
    if kind.kind == "f":
        made = rng.standard_normal((count, *shape)).astype(kind)
    else:
        made = rng.integers(0, 2 if kind.kind == "b" else 100, (count, *shape)).astype(kind)
    return made if spec.is_fixed else list(made)


def _bytes_of(column: Rows) -> int:
    return sum(row.nbytes for row in column) if isinstance(column, list) else int(column.nbytes)
