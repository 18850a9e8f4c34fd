"""Rows that are made a part at a time, because all at once would take too much memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from kvspark.errors import RowError
from kvspark.infer.compute.values import Values, joined
from kvspark.infer.resolve.compiled_plan import CompiledPlan
from kvspark.infer.rows.columns import Column
from kvspark.model.stage.stage import Stage


def rows_at_once(compiled: CompiledPlan, stage: Stage, count: int) -> int:
    """How many of `count` rows are made at once: whole calls, so that parts cost no padding."""
    full = compiled.bundle.shapes_of(stage).micro_batch.rows
    if count <= full:
        return full
    size = sum(each.bytes_per_row or 0 for each in compiled.stages[stage.name].upstream)
    return max(1, compiled.plan.max_held_bytes // max(1, size) // full) * full


def in_parts(
    stage: Stage,
    keys: Sequence[bytes],
    columns: Mapping[str, Column],
    step: int,
    make: Callable[[Sequence[bytes], Mapping[str, Column]], Values],
) -> Values:
    """What `make` gives for the rows of `columns`, `step` at a time.

    Raises:
        RowError: as `make` does; it has the place of the row among all of them.
    """
    parts = []
    for start in range(0, len(keys), step):
        rows = np.arange(start, min(start + step, len(keys)))
        part = {name: column.take(rows) for name, column in columns.items()}
        try:
            parts.append(make(keys[start : start + step], part))
        except RowError as error:
            raise error.at(start + (error.row or 0)) from error.__cause__
    return joined(stage, parts)
