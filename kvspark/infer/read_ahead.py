"""Batches that are read ahead: a ring that is bounded in bytes, whose rows are looked up meanwhile.

Nothing is computed here and nothing leaves out of order. An input that fails does so where it would
have without the ring: after the batches before it.

Where the last stage is not looked up ahead, because it is not cached (a head that is
cheap, or re-trained each night), the stages before it are. What was found of those is kept until their rows were computed, which
may be batches later. As soon as a batch had no use for it, no more of it is asked for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
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
    ahead: Ahead | None = None
    """Its look-up, where it was read ahead."""
    before: tuple[Ahead, ...] = ()
    """Look-ups of its rows at stages before the last one; for who computes them to forget."""

    @property
    def size_bytes(self) -> int:
        """Of the batch and of what is found of it, about."""
        held = sum(column.size_bytes for column in self.columns.values())
        held += int(getattr(self.tag, "nbytes", 0)) + _PER_ROW_BYTES * len(self.rows.key_of_row)
        return held + sum(each.size_bytes for each in (self.ahead, *self.before) if each)

    def settle(self) -> None:
        """Where all of its rows were pending, for example, nobody has looked them up."""
        if self.ahead is not None:
            self.ahead.forget()

    def forget(self) -> None:
        """Nobody will look anything up."""
        self.settle()
        for each in self.before:
            each.forget()


def read_ahead(
    resolver: Resolver, stage: Stage, batches: Iterable[tuple[T, Columns, int]]
) -> Generator[Read[T], None, None]:
    """Each of `batches`, in their order; those behind it are read and looked up at `stage` meanwhile.

    Where look-ups are asked for ahead, one batch at least is, and more until they hold the bytes that
    may be: the last one may go beyond them. Elsewhere none is.

    Raises:
        Exception: what `batches` raises, after the batches before it.
    """
    asking: _Asking[T] = _Asking(resolver, stage)
    source = iter(batches)
    held: deque[Read[T]] = deque()
    current: Read[T] | None = None
    failure: Exception | None = None
    is_over = False
    try:
        while not is_over or held:
            current = held.popleft() if held else asking.next(source)
            if current is None:
                return
            while not is_over and sum([each.size_bytes for each in held]) < asking.max_bytes:
                try:
                    following = asking.next(source)
                    if following is not None:
                        held.append(asking.asked(following))
                except Exception as exc:  # noqa: BLE001 - raised below, in its turn
                    following, failure = None, exc
                is_over = following is None
            yield current
            current.settle()
            current = None  # who took it forgets the rest
        if failure is not None:
            raise failure
    finally:
        failure = None  # it holds this frame, which would hold it
        for each in held if current is None else (current, *held):
            each.forget()


@final
class _Asking(Generic[T]):
    """Reads batches and asks for their rows at `stage`, or at the stages before it."""

    def __init__(self, resolver: Resolver, stage: Stage) -> None:
        self._resolver = resolver
        self._stage = stage
        self._entries = _nearest(resolver, stage)
        self._before: list[Ahead] = []
        """What was asked for at stages before the last one, and not forgotten when it was looked at."""

    @property
    def max_bytes(self) -> int:
        """What may be held; 0 where nothing is asked for ahead."""
        return max((entries.max_bytes for entries in self._entries.values()), default=0)

    def next(self, source: Iterator[tuple[T, Columns, int]]) -> Read[T] | None:
        """The next of `source`; None behind the last."""
        batch = next(source, None)
        if batch is None:
            return None
        tag, columns, _ = batch
        return Read(tag, columns, self._resolver.keyed(self._stage, columns))

    def asked(self, batch: Read[T]) -> Read[T]:
        """`batch`, whose rows were asked for."""
        last = self._entries.get(self._stage.name)
        if last is not None:
            return replace(batch, ahead=last.ahead(batch.rows.keys))
        return replace(batch, before=tuple(self._asked_before(batch.columns)))

    def _asked_before(self, columns: Columns) -> Iterator[Ahead]:
        if any(ahead.is_over and not ahead.is_wanted for ahead in self._before):
            self._entries = {}
        self._before = [ahead for ahead in self._before if not ahead.is_over]
        for name, entries in self._entries.items():
            keys = self._resolver.keyed(self._resolver.stages[name], columns).keys
            # Of more than the ring holds each part is looked up in its turn.
            if keys and len(keys) * entries.row_bytes <= entries.max_bytes:
                self._before.append(entries.ahead(keys))
                yield self._before[-1]


def _nearest(resolver: Resolver, stage: Stage) -> Mapping[str, AheadEntries]:
    """By stage, the entries that can be asked for ahead: of `stage`, or of the nearest ones before it.

    Not of towers, most of whose rows a worker still has.
    """
    entries = resolver.entries.get(stage.name)
    if isinstance(entries, AheadEntries):
        return {stage.name: entries}
    found: dict[str, AheadEntries] = {}
    for name in stage.upstream:
        if name not in resolver.memos:
            found.update(_nearest(resolver, resolver.stages[name]))
    return found
