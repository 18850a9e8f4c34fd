"""The predictor of one call, kept for the next one: a notebook that asks row by row opens its weights once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from kvspark.infer.predict.predictor import Predictor
from kvspark.infer.resolve.compiled_plan import compiled_plan
from kvspark.model.bundle.bundle import Bundle
from kvspark.plan.plan import Plan

if TYPE_CHECKING:
    from kvspark.cache.cache import Cache


@final
@dataclass(frozen=True, slots=True)
class _Kept:
    plan: Plan | None
    cache: Cache | None
    threads: int
    predictor: Predictor

    def fits(self, plan: Plan | None, cache: Cache | None, threads: int) -> bool:
        return self.cache is cache and self.threads == threads and self.plan == plan


@final
class KeptPredictor:
    """The predictors of one model, of which the last one that was given back is kept; safe between threads."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._kept: list[_Kept] = []
        """At most one. Who takes it out owns it, so no two threads compute with the same."""

    @contextmanager
    def predictor(
        self, plan: Plan | None, cache: Cache | None, threads: int
    ) -> Iterator[Predictor]:
        """A predictor for one call. It is kept if the call ends well, and all it computed is exact.

        Raises:
            UsageError: the plan does not fit the model, or `threads` is not positive.
        """
        kept = self._taken()
        if kept is None or not kept.fits(plan, cache, threads):
            compiled = compiled_plan(self._bundle, plan)
            predictor = Predictor(compiled, cache=cache, threads=threads)
            kept = _Kept(plan, cache, threads, predictor)
        yield kept.predictor
        if kept.predictor.resolver.is_exact():
            self._kept[:] = [kept]

    def _taken(self) -> _Kept | None:
        try:
            return self._kept.pop()
        except IndexError:
            return None
