"""Batches that are read ahead: a ring that is bounded in bytes, whose rows are looked up meanwhile.

Nothing is computed here and nothing leaves out of order. An input that fails does so where it would
have without the ring: after the batches before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar, final

from kvspark.cache.look_ahead import Ahead, AheadEntries
from kvspark.infer.keyed import Keyed
from kvspark.infer.resolve import Columns, Resolver
from kvspark.model.stage import Stage

T = TypeVar("T")

_PER_ROW_BYTES = 96
"""Of a row's key (a Python object of 65 bytes) and of its places, 8 each."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class Read(Generic[T]):
    """A batch whose rows have keys."""

    tag: T
    columns: Columns
    rows: Keyed
    ahead: Ahead | None
    """Its look-up, where it was read ahead."""

    @property
    def size_bytes(self) -> int:
        """Of the batch and of what is found of it, about."""
        held = sum(column.size_bytes for column in self.columns.values())
        held += int(getattr(self.tag, "nbytes", 0)) + _PER_ROW_BYTES * len(self.rows.key_of_row)
        return held if self.ahead is None else held + self.ahead.size_bytes


def read_ahead(
    resolver: Resolver, stage: Stage, batches: Iterable[tuple[T, Columns, int]]
) -> Generator[Read[T], None, None]:
    """Each of `batches`, in their order; those behind it are read and looked up at `stage` meanwhile.

    Where look-ups are asked for ahead, one batch at least is, and more until they hold the bytes that
    may be: the last one may go beyond them. Elsewhere none is.

    Raises:
        Exception: what `batches` raises, after the batches before it.
    """
    entries = resolver.entries.get(stage.name)
    ahead = entries if isinstance(entries, AheadEntries) else None
    most_bytes = 0 if ahead is None else ahead.max_bytes
    source = iter(batches)
    held: deque[Read[T]] = deque()
    current: Read[T] | None = None
    failure: Exception | None = None
    is_over = False
    try:
        while not is_over or held:
            current = held.popleft() if held else _next(source, resolver, stage)
            if current is None:
                return
            while not is_over and sum([each.size_bytes for each in held]) < most_bytes:
                try:
                    following = _next(source, resolver, stage, ahead)
                except Exception as exc:  # noqa: BLE001 - raised below, in its turn
                    following, failure = None, exc
                if following is None:
                    is_over = True
                else:
                    held.append(following)
            yield current
            _forget(current)
        if failure is not None:
            raise failure
    finally:
        failure = None  # it holds this frame, which would hold it
        for each in held if current is None else (current, *held):
            _forget(each)


def _next(
    source: Iterator[tuple[T, Columns, int]],
    resolver: Resolver,
    stage: Stage,
    ahead: AheadEntries | None = None,
) -> Read[T] | None:
    """The next of `source`, whose rows are asked for in `ahead`; None behind the last."""
    batch = next(source, None)
    if batch is None:
        return None
    tag, columns, _ = batch
    rows = resolver.keyed(stage, columns)
    return Read(tag, columns, rows, None if ahead is None else ahead.ahead(rows.keys))


def _forget(read: Read[T]) -> None:
    """Where all of its rows were pending, for example, nobody has looked them up."""
    if read.ahead is not None:
        read.ahead.forget()
