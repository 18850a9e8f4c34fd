"""The bundle itself, called with one row: where a model's own runtime is not at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np

from kvspark.model.bundle.bundle import Bundle
from kvspark.model.own.runtime import Array, OwnRuntime, Row, RunRow, of_one_row
from kvspark.spec import TensorSpec


@final
class Stages(OwnRuntime):
    """The stages of a bundle one after the other, each called with one row that is not padded.

    It shows what company, padding and the cut into micro-batches do to a row. What the bundle got wrong
    when it was made it cannot show.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle

    @property
    def name(self) -> str:
        return "the bundle's own stages, one unpadded row a call"

    @property
    def is_independent(self) -> bool:
        return False

    @property
    def is_half(self) -> bool:
        return any(
            source.tensor.dtype in ("bfloat16", "float16")
            for stage in self._bundle.stages
            for source in stage.sources
        )

    def open(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> RunRow:
        stages = self._bundle.stages
        computations = [self._bundle.computation(stage, threads=1) for stage in stages]

        def run(row: Row) -> Mapping[str, Array]:
            def call(copies: int) -> Mapping[str, Array]:
                made: dict[tuple[str | None, str], Any] = {
                    (None, spec.name): [row[spec.name]] * copies for spec in inputs
                }
                for stage, computation in zip(stages, computations, strict=True):
                    values = [made[source.stage, source.tensor.name] for source in stage.sources]
                    given = [np.asarray(v) if stage.is_batched else v for v in values]
                    for spec, result in zip(stage.outputs, computation.run(given), strict=True):
                        made[stage.name, spec.name] = result
                return {spec.name: np.array(made[stages[-1].name, spec.name]) for spec in outputs}

            return of_one_row(call, outputs)

        return run
