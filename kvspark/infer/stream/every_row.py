"""Batches of which every row is computed: nothing is looked up, and equal rows are not searched for.

Rows of several batches share calls, as in a window, but none has a name: what a cheap model takes is little
more than its calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar, final

import numpy as np

from kvspark.errors import RowError
from kvspark.infer.compute.values import nothing
from kvspark.infer.resolve.resolve import Columns, Resolver
from kvspark.infer.rows.bad_rows import BadRows, bad_at
from kvspark.infer.rows.columns import concat_columns
from kvspark.infer.rows.subject import own_columns
from kvspark.model.stage.stage import Stage
from kvspark.plan.plan import Plan
from kvspark.spec import Rows

T = TypeVar("T")


@final
class EveryRow(Generic[T]):
    """The batches of one task on their way through a resolver that finds no equal rows."""

    def __init__(self, resolver: Resolver, stage: Stage, plan: Plan) -> None:
        self._resolver = resolver
        self._stage = stage
        self._plan = plan
        self._held: list[tuple[T, Columns, int]] = []

    def results(
        self, batches: Iterable[tuple[T, Columns, int]]
    ) -> Iterator[tuple[T, tuple[Rows, ...], BadRows]]:
        """The results of each batch, and which of its rows are bad, in the order of `batches`."""
        rows = size_bytes = 0
        for tag, columns, count in batches:
            own = own_columns(self._stage, columns)
            self._held.append((tag, own, count))
            rows += count
            size_bytes += int(getattr(tag, "nbytes", 0)) + sum(c.size_bytes for c in own.values())
            is_full = rows >= self._plan.max_pending_rows
            if is_full or size_bytes >= self._plan.max_held_bytes or not rows:
                yield from self._release()
                rows = size_bytes = 0
        yield from self._release()

    def _release(self) -> Iterator[tuple[T, tuple[Rows, ...], BadRows]]:
        held, self._held = self._held, []
        ends = np.cumsum([count for _, _, count in held])
        if not held or not ends[-1]:
            for tag, _, _ in held:
                yield tag, nothing(self._stage).columns, {}
            return
        filled = [columns for _, columns, count in held if count]
        columns = {name: concat_columns([each[name] for each in filled]) for name in filled[0]}
        try:
            made = self._resolver.every(self._stage, columns, int(ends[-1]))
        except RowError as error:
            place = int(np.searchsorted(ends, error.row or 0, side="right"))
            tag, _, count = held[place]
            placed = error.at((error.row or 0) - int(ends[place]) + count)
            placed.batch = tag
            raise placed from error.__cause__
        for (tag, _, count), end in zip(held, ends, strict=True):
            bad = bad_at(made.bad, np.arange(end - count, end)) if made.bad else {}
            yield tag, tuple(column[end - count : end] for column in made.columns), bad
