"""Batches through a resolver, by the way that pays: looked up in a window, or every row computed.

A stage whose cache costs more than it saves rests (`kvspark.cache.stage.worth`). While it does, the rows of
a cheap model need no names, and each batch asks anew. Before such a model looks up a whole batch, it looks
up a few rows: what that costs is known then, and a batch of 10,000 rows that nobody should have asked for
is 50 ms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar, final

import numpy as np

from kvspark.cache.stage.worth import FEW_ROWS
from kvspark.errors import RowError
from kvspark.infer.resolve.resolve import Columns, Resolver
from kvspark.infer.rows.bad_rows import BadRows, bad_joined
from kvspark.infer.stream.every_row import EveryRow
from kvspark.infer.stream.window import Window
from kvspark.model.stage.rows_of_call import MOST_ROWS
from kvspark.model.stage.stage import Stage
from kvspark.plan.plan import Plan
from kvspark.spec import Rows, end_to_end

T = TypeVar("T")

FIRST_ROWS = 512
"""Twice as many are looked up and computed before others: 5 ms each at 10 us a row, and enough to tell."""

Given = tuple[T, Columns, int]
"""A batch: its tag, its columns, its rows."""
Made = tuple[T, tuple[Rows, ...], BadRows]


def results(
    resolver: Resolver, stage: Stage, plan: Plan, batches: Iterable[Given[T]]
) -> Iterator[Made[T]]:
    """The results of each batch, and which of its rows are bad, in the order of `batches`.

    Raises:
        RowError: as the resolver does; with the batch's tag, and the place of the row in it.
    """

    def is_named(batch: Given[T]) -> bool:
        return resolver.finds_equal_rows(stage, batch[2])

    source = _Source(batches)
    space = resolver.entries.get(stage.name)
    may_rest = space is not None and space.watch is not None and _is_cheap(resolver, stage)
    while (batch := source.following()) is not None:
        if not is_named(batch):
            yield from EveryRow[T](resolver, stage, plan).results(source.until(is_named))
            continue
        if may_rest and batch[2] > FEW_ROWS:
            yield _in_pieces(resolver, stage, plan, source.take())
        named = source.until(lambda batch: not is_named(batch))
        yield from Window[T](resolver, stage, plan).results(named)


def _is_cheap(resolver: Resolver, stage: Stage) -> bool:
    """True if `stage` and all before it are computed so fast that looking a row up may well take longer."""
    before = [resolver.stages[name] for name in stage.upstream]
    return stage.rows == MOST_ROWS and all(_is_cheap(resolver, each) for each in before)


def _in_pieces(resolver: Resolver, stage: Stage, plan: Plan, batch: Given[T]) -> Made[T]:
    """The results of `batch`, whose first rows are looked up and computed before the others."""
    tag, columns, count = batch
    made: list[Made[int]] = []
    for start, end in ((0, FIRST_ROWS), (FIRST_ROWS, 2 * FIRST_ROWS), (2 * FIRST_ROWS, count)):
        rows = np.arange(start, end)
        piece = start, {name: column.take(rows) for name, column in columns.items()}, len(rows)
        is_named = resolver.finds_equal_rows(stage, len(rows))
        way = Window[int] if is_named else EveryRow[int]
        try:
            made += way(resolver, stage, plan).results([piece])
        except RowError as error:
            placed = error.at(start + (error.row or 0))
            placed.batch = tag
            raise placed from error.__cause__
    bad = bad_joined([(bad, len(rows[0])) for _, rows, bad in made])
    whole = zip(*(rows for _, rows, _ in made), strict=True)
    return tag, tuple(end_to_end(parts) for parts in whole), bad


@final
class _Source(Generic[T]):
    """Batches, the next of which can be looked at."""

    def __init__(self, batches: Iterable[Given[T]]) -> None:
        self._batches = iter(batches)
        self._next: Given[T] | None = None

    def following(self) -> Given[T] | None:
        """The batch that `take` gives; None after the last."""
        if self._next is None:
            self._next = next(self._batches, None)
        return self._next

    def take(self) -> Given[T]:
        """The next batch; there is one."""
        batch = self.following()
        assert batch is not None
        self._next = None
        return batch

    def until(self, is_over: Callable[[Given[T]], bool]) -> Iterator[Given[T]]:
        """The next batches, up to the one of which that `is_over`; the first is not asked."""
        is_first = True
        while (batch := self.following()) is not None and (is_first or not is_over(batch)):
            is_first = False
            yield self.take()
