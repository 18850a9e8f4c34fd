"""Batches whose rows wait for each other: misses are gathered and computed together, order is kept.

Twenty changed rows in each of fifty batches cost a few full micro-batches, not fifty padded ones. A
batch leaves when all of its rows are known; nothing leaves before the batches that came before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Generic, TypeVar, final

import numpy as np
import numpy.typing as npt

from kvspark.errors import RowError
from kvspark.infer.compute.values import Values, scatter
from kvspark.infer.resolve.resolve import Columns, Resolver
from kvspark.infer.rows.bad_rows import BadRows, bad_at
from kvspark.infer.rows.columns import Column, concat_columns
from kvspark.infer.stream.read_ahead import Read, read_ahead
from kvspark.model.stage.stage import Stage
from kvspark.plan.plan import Plan
from kvspark.spec import Rows

T = TypeVar("T")


@final
@dataclass(frozen=True, slots=True)
class _Held(Generic[T]):
    """A batch that waits."""

    tag: T
    values: Values
    """Of the keys that were found."""
    index: npt.NDArray[np.intp]
    """For each row: its place among the found keys if not negative, else -1 - its place in the pool."""


@final
class Window(Generic[T]):
    """The batches of one task on their way through a resolver."""

    def __init__(self, resolver: Resolver, stage: Stage, plan: Plan) -> None:
        self._resolver = resolver
        self._stage = stage
        self._plan = plan
        self._held: deque[_Held[T]] = deque()
        self._held_bytes = 0
        self._pool: dict[bytes, int] = {}
        """Distinct keys that wait to be computed, with their places."""
        self._pooled: list[Columns] = []

    def results(
        self, batches: Iterable[tuple[T, Columns, int]]
    ) -> Iterator[tuple[T, tuple[Rows, ...], BadRows]]:
        """The results of each batch, and which of its rows are bad, in the order of `batches`."""
        with closing(read_ahead(self._resolver, self._stage, batches)) as source:
            for batch in source:
                self._hold(batch)
                is_full = (
                    len(self._pool) >= self._plan.max_pending_rows
                    or self._held_bytes >= self._plan.max_held_bytes
                )
                if is_full or not self._pool:
                    yield from self._release()
        yield from self._release()

    def _hold(self, batch: Read[T]) -> None:
        tag, columns, read = batch.tag, batch.columns, batch.rows
        asked = self._resolver.ask(self._stage, read, self._pool, batch.ahead)
        place = np.empty(len(read.keys), dtype=np.intp)
        place[asked.found] = np.arange(int(asked.found.sum()))
        missing = np.flatnonzero(~asked.found)
        keys = read.keys if len(missing) == len(read.keys) else [read.keys[i] for i in missing]
        if self._pool:
            is_new = np.array([key not in self._pool for key in keys], dtype=bool)
            for key in keys:
                self._pool.setdefault(key, len(self._pool))
            place[missing] = [-1 - self._pool[key] for key in keys]
        else:
            is_new = np.ones(len(keys), dtype=bool)
            self._pool = dict(zip(keys, range(len(keys)), strict=True))
            place[missing] = -1 - np.arange(len(keys))
        if is_new.any():
            rows = read.first_row[missing[is_new]]
            self._pooled.append({name: column.take(rows) for name, column in columns.items()})
            self._held_bytes += sum(c.size_bytes for c in self._pooled[-1].values())
        self._held.append(_Held(tag, asked.values, place[read.key_of_row]))
        # The caller's batch waits as well; Arrow's batches know their size.
        self._held_bytes += int(getattr(tag, "nbytes", 0)) + _size_bytes(asked.values)

    def _release(self) -> Iterator[tuple[T, tuple[Rows, ...], BadRows]]:
        made: Values | None = None
        if self._pool:
            names = self._pooled[0]
            columns: Mapping[str, Column] = {
                name: concat_columns([part[name] for part in self._pooled]) for name in names
            }
            try:
                made = self._resolver.make(self._stage, list(self._pool), columns)
            except RowError as error:
                raise self._placed(error) from error.__cause__
        self._pool, self._pooled, self._held_bytes = {}, [], 0
        while self._held:
            held = self._held.popleft()
            bad = {} if made is None else bad_at(made.bad, -1 - held.index)
            yield held.tag, self._rows(held, made), bad

    def _placed(self, error: RowError) -> RowError:
        """The error with the row, in its own batch, that asked first for what is at its place of the pool."""
        for held in self._held:
            asking = np.flatnonzero(held.index == -1 - (error.row or 0))
            if len(asking):
                placed = error.at(int(asking[0]))
                placed.batch = held.tag
                return placed
        return error

    def _rows(self, held: _Held[T], made: Values | None) -> tuple[Rows, ...]:
        found = len(held.values.columns[0])
        index = np.where(held.index >= 0, held.index, found - 1 - held.index)
        parts = [held.values] if made is None else [held.values, made]
        return tuple(
            scatter([part.columns[i] for part in parts], index, spec)
            for i, spec in enumerate(self._stage.outputs)
        )


def _size_bytes(values: Values) -> int:
    return sum(
        sum(row.nbytes for row in rows) if isinstance(rows, list) else rows.nbytes
        for rows in values.columns
    )
