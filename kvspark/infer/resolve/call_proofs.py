"""What was found of smaller calls, remembered in the cache: in the place of a stage's results there is a yes or no."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

import numpy as np

from kvspark.cache.stage.stage_caches import StageCaches
from kvspark.fingerprint import digest
from kvspark.infer.compute.computations import Computations
from kvspark.infer.compute.short_calls import Shape
from kvspark.infer.resolve.compiled_plan import CompiledPlan
from kvspark.model.run.numerics import place_of
from kvspark.model.stage.stage import Stage
from kvspark.spec import TensorSpec

_FORMAT = 2
"""Of the trial: what an earlier one has found is not believed."""

_SPECS = (TensorSpec("equal", "bool"),)


@final
class CallProofs:
    """What is known of one stage on machines with the arithmetic `place`."""

    def __init__(self, cache: StageCaches, stage: Stage, place: bytes) -> None:
        identity = digest("kvspark.calls", [_FORMAT, stage.fingerprint, place])
        self._space = cache.keyspace(identity, _SPECS)

    def known(self, shapes: Sequence[Shape]) -> dict[Shape, bool] | None:
        """Of those of `shapes` that were tried, whether they give the bits of a whole call; None without an answer."""
        lookup = self._space.lookup(self._space.digests([_row(each) for each in shapes]))
        if not lookup.is_answered:
            return None
        found = [shape for shape, is_known in zip(shapes, lookup.found, strict=True) if is_known]
        return {shape: bool(equal) for shape, equal in zip(found, lookup.columns[0], strict=True)}

    def add(self, shapes: Mapping[Shape, bool]) -> None:
        """Remembers what was found; best effort."""
        digests = self._space.digests([_row(each) for each in shapes])
        self._space.insert(digests, (np.array([*shapes.values()], dtype=bool),), cost_us=0)


def _row(shape: Shape) -> bytes:
    return np.array(shape, dtype="<i8").tobytes()


def computations_of(
    compiled: CompiledPlan, cache: StageCaches | None, *, threads: int, device: str
) -> Computations:
    """What the stages of `compiled` run, in smaller calls where the plan has them; `cache` remembers which."""

    def proofs(stage: Stage) -> CallProofs | None:
        if cache is None:
            return None
        return CallProofs(cache, stage, place_of(stage, threads, device))

    wanted = compiled.plan.short_calls
    is_tried = cache is not None if wanted is None else wanted
    given = proofs if is_tried else None
    return Computations(compiled.bundle, threads=threads, device=device, proofs=given)
