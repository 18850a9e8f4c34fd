"""The calls in which rows are computed: grouped by their lengths, each call of a fixed shape."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from kvspark.infer.compute.row_lengths import apart
from kvspark.infer.compute.short_calls import ShortCalls
from kvspark.infer.rows.bad_rows import Indices, Lengths
from kvspark.model.stage.stage import Stage
from kvspark.spec import Shapes

AS_THEY_ARE = -1
Call = tuple[int, int, Indices]
"""Padded length (0 without lengths, -1 for rows as they are), rows of the call, rows to compute."""
Group = tuple[int, int, Indices]
"""Padded length (0 without lengths), rows of a call, all rows of that length."""


def grouped(lengths: Lengths | None, rows: Indices, shapes: Shapes) -> list[Group]:
    """The `rows` by the shape in which they are computed."""
    micro_batch, rule = shapes.micro_batch, shapes.length_rule
    if lengths is None:
        return [(0, micro_batch.rows, rows)]
    buckets = np.array(
        [rule.length_in_call(int(lengths[row]), micro_batch) for row in rows], dtype=np.int64
    )
    order = np.argsort(buckets, kind="stable")
    found, starts = np.unique(buckets[order], return_index=True)
    parts = np.split(rows[order], starts[1:]) if len(rows) else []
    return [
        (int(bucket), micro_batch.rows_at(int(bucket)), part)
        for bucket, part in zip(found, parts, strict=True)
    ]


def calls_of(
    stage: Stage,
    arguments: Sequence[Any],
    lengths: Lengths | None,
    rows: Indices,
    shapes: Shapes,
    *,
    computed: Collection[str],
    short: ShortCalls | None = None,
) -> Iterator[Call]:
    """The calls for `rows` of the `arguments` of `stage`; what comes from stages in `computed` is padded already.

    A call that `short` knows to be right for fewer rows has them at the end of a group.
    """
    if shapes.length_rule.groups and lengths is not None:
        rows, others = apart(arguments, stage.sources, rows, computed=computed)
        yield from _calls_apart(others, shapes)
    yield from _calls(lengths, rows, shapes, short)


def _calls(
    lengths: Lengths | None, rows: Indices, shapes: Shapes, short: ShortCalls | None
) -> Iterator[Call]:
    """The calls for `rows`: padded length (0 without lengths), rows of the call, rows to compute."""
    groups = grouped(lengths, rows, shapes)
    if short is not None:
        short.prepare([bucket for bucket, _, _ in groups])
    for bucket, size, group in groups:
        last = len(group) - len(group) % size
        for start in range(0, last, size):
            yield bucket, size, group[start : start + size]
        rest = len(group) - last
        # Asked here, and not before: a whole call of the group may have told.
        parts = short.parts(bucket, size, rest) if short is not None and rest else (size,)
        for part in parts if rest else ():
            yield bucket, part, group[last : last + part]
            last += part


def _calls_apart(others: Iterable[tuple[int, Indices]], shapes: Shapes) -> Iterator[Call]:
    """The calls for rows whose inputs differ in length: those of the same lengths share one, and none is padded."""
    for longest, group in others:
        size = shapes.micro_batch.rows_at(longest)
        for start in range(0, len(group), size):
            yield AS_THEY_ARE, size, group[start : start + size]
