"""What the stages of one model run: opened when rows of theirs must be computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import final

from kvspark.fingerprint import Fingerprint
from kvspark.infer.compute.bad_row_rule import BadRowRule
from kvspark.infer.compute.given_rows import Given
from kvspark.infer.compute.microbatch import compute
from kvspark.infer.compute.short_calls import Proofs, ShortCalls, short_calls_of
from kvspark.infer.compute.values import Values
from kvspark.model.bundle.bundle import Bundle
from kvspark.model.run.computation import Computation
from kvspark.model.stage.stage import Stage


@final
class Computations:
    """Calls the stages of `bundle` with `threads` threads, graph stages on `device`.

    With `proofs`, in smaller calls where they give the same bits; it says what is remembered of a stage.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        threads: int,
        device: str,
        proofs: Callable[[Stage], Proofs | None] | None = None,
    ) -> None:
        self._bundle = bundle
        self._proofs = proofs
        self._threads = threads
        self._device = device
        self._batched = [stage.name for stage in bundle.stages if stage.is_batched]
        # The calls of a siamese encoder are one program.
        self._own = {s.name: s.fingerprint if s.kind == "graph" else s.name for s in bundle.stages}
        self._of: dict[str | Fingerprint, Computation] = {}
        self._short: dict[str | Fingerprint, ShortCalls | None] = {}
        self._opened: dict[str, list[float]] = {}

    def of(self, stage: Stage) -> Computation:
        """What `stage` runs; opened once."""
        own = self._own[stage.name]
        if own not in self._of:
            started = perf_counter()
            self._of[own] = self._bundle.computation(
                stage, threads=self._threads, device=self._device
            )
            self._opened.setdefault(stage.name, []).append(perf_counter() - started)
            self._short[own] = self._short_calls(stage, self._of[own])
        return self._of[own]

    def _short_calls(self, stage: Stage, computation: Computation) -> ShortCalls | None:
        if self._proofs is None:
            return None
        shapes = self._bundle.shapes_of(stage).micro_batch
        return short_calls_of(stage, computation, shapes, self._proofs)

    def run(self, stage: Stage, given: Given, rule: BadRowRule) -> Values:
        """The results of `stage` for the rows `given`, but for those that are bad already."""
        return compute(
            stage,
            self.of(stage),
            given,
            self._bundle.shapes_of(stage),
            rule,
            trims=stage is self._bundle.stages[-1],
            computed=self._batched,
            short=self._short[self._own[stage.name]],
        )

    def drain(self) -> Mapping[str, Sequence[float]]:
        """The seconds of each time that weights were opened since the last drain, by stage."""
        opened, self._opened = self._opened, {}
        return opened

    def are_exact(self, names: Sequence[str]) -> bool:
        """False if one of the stages `names` was computed in other shapes than those of its fingerprint."""
        opened = (self._of.get(self._own[name]) for name in names)
        return all(each is None or each.is_exact for each in opened)
