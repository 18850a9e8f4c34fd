"""The computed stages of a bundle as one function, without micro-batches, entries or a plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np

from kvspark.model.bundle.bundle import Bundle
from kvspark.model.trials.trial_values import Array, Key, Values


@final
class Chained:
    """All computed stages of a bundle, one after the other."""

    def __init__(self, bundle: Bundle) -> None:
        self._stages = [stage for stage in bundle.stages if stage.is_batched]
        self._opened = {s.name: bundle.computation(s, threads=1) for s in self._stages}

    def __call__(self, values: Values) -> Sequence[Array]:
        results: dict[Key, Array] = dict(values)
        for stage in self._stages:
            arguments = [
                np.ascontiguousarray(results[source.stage, source.tensor.name])
                for source in stage.sources
            ]
            made = self._opened[stage.name].run(arguments)
            for spec, array in zip(stage.outputs, made, strict=True):
                results[stage.name, spec.name] = np.asarray(array)
        last = self._stages[-1]
        return [results[last.name, spec.name] for spec in last.outputs]
