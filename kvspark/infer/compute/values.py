"""The results of a stage for some rows: brought together, scattered, taken in and out of entries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import final

import numpy as np
import numpy.typing as npt

from kvspark.infer.rows.bad_rows import BadRows, Indices, Lengths, bad_at, bad_joined
from kvspark.model.stage.stage import Stage
from kvspark.spec import Rows, TensorSpec

LENGTH = TensorSpec("length", "int64", ())
"""Stored with the results of a stage that have a varying dimension."""


@final
@dataclass(frozen=True, slots=True)
class Values:
    """The results of a stage for n rows."""

    columns: tuple[Rows, ...]
    """One for each output of the stage."""
    lengths: Lengths | None = None
    """The rows' lengths before padding, where a dimension varies."""
    micro_batches: int = 0
    padding_rows: int = 0
    bad: BadRows = field(default_factory=dict)
    """The rows that have no result; in their places are zeros."""

    def good(self, keys: Sequence[bytes]) -> tuple[Values, Sequence[bytes]]:
        """The rows that have a result, and of `keys` those that are theirs."""
        if not self.bad:
            return self, keys
        rows = np.array([i for i in range(len(keys)) if i not in self.bad], dtype=np.intp)
        columns = tuple(taken(column, rows) for column in self.columns)
        lengths = None if self.lengths is None else self.lengths[rows]
        return Values(columns, lengths), [keys[i] for i in rows]


def taken(column: Rows, rows: Indices) -> Rows:
    """The rows at these places."""
    return [column[i] for i in rows] if isinstance(column, list) else column[rows]


def scatter(rows_of: Sequence[Rows], index: npt.NDArray[np.intp], spec: TensorSpec) -> Rows:
    """The rows at `index` of `rows_of`, taken as one sequence laid end to end."""
    if spec.is_fixed:
        parts = [np.asarray(rows) for rows in rows_of if len(rows)] or [np.asarray(rows_of[0])]
        return (parts[0] if len(parts) == 1 else np.concatenate(parts))[index]
    flat = [row for rows in rows_of for row in rows]
    return [flat[i] for i in index]


def scattered(
    stage: Stage,
    found: npt.NDArray[np.bool_],
    place_of_row: npt.NDArray[np.intp],
    known: Values,
    made: Values | None,
) -> Values:
    """The values of all rows; `known` holds those of the distinct rows in `found`, `made` the others."""
    parts = [known] if made is None else [known, made]
    position = np.empty(len(found), dtype=np.intp)
    hits = int(found.sum())
    position[found] = np.arange(hits)
    position[~found] = hits + np.arange(len(found) - hits)
    index = position[place_of_row]
    columns, lengths = _gathered(stage, parts, index)
    bad = {} if made is None else bad_at(made.bad, index - hits)
    return Values(columns, lengths, bad=bad)


def joined(stage: Stage, parts: Sequence[Values]) -> Values:
    """The values of `parts`, one after the other."""
    index = np.arange(sum(len(part.columns[0]) for part in parts))
    columns, lengths = _gathered(stage, parts, index)
    bad = bad_joined([(part.bad, len(part.columns[0])) for part in parts])
    return Values(columns, lengths, bad=bad)


def placed(stage: Stage, parts: Sequence[tuple[Indices, Values]]) -> Values:
    """The values of all rows; each of `parts` has those of the rows at some places."""
    whole = joined(stage, [values for _, values in parts])
    order = np.concatenate([rows for rows, _ in parts])
    index = np.empty(len(order), dtype=np.intp)
    index[order] = np.arange(len(order))
    columns, lengths = _gathered(stage, [whole], index)
    return Values(columns, lengths, bad=bad_at(whole.bad, index))


def _gathered(
    stage: Stage, parts: Sequence[Values], index: Indices
) -> tuple[tuple[Rows, ...], Lengths | None]:
    """The rows at `index` of `parts` laid end to end, and their lengths."""
    columns = tuple(
        scatter([part.columns[i] for part in parts], index, spec)
        for i, spec in enumerate(stage.outputs)
    )
    lengths = [part.lengths for part in parts if part.lengths is not None]
    return columns, np.concatenate(lengths)[index] if lengths and varies(stage) else None


def varies(stage: Stage) -> bool:
    """True if a result of `stage` has another size from row to row."""
    return any(not spec.is_fixed for spec in stage.outputs)


def entry_specs(stage: Stage) -> tuple[TensorSpec, ...]:
    """The tensors of an entry of `stage`."""
    return (*stage.outputs, LENGTH) if varies(stage) else stage.outputs


def entry_columns(stage: Stage, values: Values) -> tuple[Rows, ...]:
    """What the entries of `values` hold."""
    if values.lengths is None or not varies(stage):
        return values.columns
    return (*values.columns, values.lengths)


def entry_values(stage: Stage, columns: tuple[Rows, ...]) -> Values:
    """The values that entries hold as `columns`."""
    if len(columns) == len(stage.outputs):
        return Values(columns)
    return Values(columns[:-1], np.asarray(columns[-1], dtype=np.int64))


def nothing(stage: Stage) -> Values:
    """The values of no row."""
    columns: list[Rows] = []
    for spec in stage.outputs:
        shape = tuple(dim or 0 for dim in spec.shape)
        columns.append(np.empty((0, *shape), spec.numpy_dtype) if spec.is_fixed else [])
    return replace(Values(tuple(columns)), lengths=np.empty(0, np.int64) if varies(stage) else None)
