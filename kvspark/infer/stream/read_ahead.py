"""Batches one of which is read ahead, so that its rows are looked up while those before it are computed.

Nothing is computed here and nothing leaves out of order.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar, final

from kvspark.cache.stage.ahead import Ahead
from kvspark.infer.resolve.keyed_rows import Keyed
from kvspark.infer.resolve.resolve import Columns, Resolver
from kvspark.model.stage.stage import Stage

T = TypeVar("T")


@final
@dataclass(frozen=True, slots=True, eq=False)
class Read(Generic[T]):
    """A batch whose rows have keys."""

    tag: T
    columns: Columns
    rows: Keyed
    ahead: Ahead | None = None
    """Its look-up, where it was read ahead."""


def read_ahead(
    resolver: Resolver, stage: Stage, batches: Iterable[tuple[T, Columns, int]]
) -> Generator[Read[T], None, None]:
    """Each of `batches`, in their order; where rows are looked up ahead, the one behind it is read meanwhile.

    Raises:
        Exception: what `batches` raises, after the batches before it.
    """
    source = iter(batches)
    entries, overlap = resolver.entries.get(stage.name), resolver.overlap
    reader = None if entries is None else entries.ahead

    def following(*, is_ahead: bool) -> Read[T] | None:
        batch = next(source, None)
        if batch is None:
            return None
        tag, columns, _ = batch
        rows = resolver.keyed(stage, columns)
        if not is_ahead or reader is None or overlap is None or not rows.keys:
            return Read(tag, columns, rows)
        return Read(tag, columns, rows, overlap.ahead(reader, rows.keys))

    failure: Exception | None = None
    read = following(is_ahead=False)
    while read is not None:
        if reader is not None:
            try:
                ready = following(is_ahead=True)
            except Exception as exc:  # noqa: BLE001 - raised below, in its turn
                ready, failure = None, exc
            yield read
            read = ready
        else:
            yield read
            read = following(is_ahead=False)
    try:
        if failure is not None:
            raise failure
    finally:
        failure = None  # it holds this frame, which would hold it
