"""Runs a stage on rows: grouped by padded length, in calls of a fixed shape.

The shape of a call follows from a row's own length, and the last call of a group is filled with
copies of its first row. So a row meets the same shape whatever else is computed, and torch gives it
the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import numpy.typing as npt

from kvspark.errors import OutputMismatchError
from kvspark.model.computation import Computation
from kvspark.model.stage import Stage
from kvspark.spec import MicroBatch, Rows, TensorSpec

Array = npt.NDArray[np.generic]
Lengths = npt.NDArray[np.int64]


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


def compute(
    stage: Stage,
    computation: Computation,
    arguments: Sequence[Any],
    lengths: Lengths | None,
    count: int,
    micro_batch: MicroBatch,
    *,
    trims: bool,
) -> Values:
    """The results of `stage` for `count` rows.

    Shapes: an argument is an array (n, *shape), a list of n arrays, or a list of n texts. With
    `trims` a result's padding is cut off, else it is kept, bit for bit, for the next stage.

    Raises:
        OutputMismatchError: the stage gives other rows, shapes or dtypes than it promises.
    """
    if not stage.is_batched:
        columns = computation.run(arguments)
        _check(stage, columns, count)
        varies = [c for c, spec in zip(columns, stage.outputs, strict=True) if not spec.is_fixed]
        return Values(columns, np.array([len(row) for row in varies[0]]) if varies else lengths)
    results = [_empty(spec, count) for spec in stage.outputs]
    calls = padding = 0
    for bucket, size, rows in _calls(lengths, count, micro_batch):
        filled = np.concatenate([rows, np.repeat(rows[:1], size - len(rows))])
        given = [
            _batched(argument, source.tensor, filled, bucket, source.pad)
            for argument, source in zip(arguments, stage.sources, strict=True)
        ]
        made = computation.run(given)
        _check(stage, made, size)
        for result, array, spec in zip(results, made, stage.outputs, strict=True):
            if isinstance(result, list):
                _place_varying(result, array, spec, rows, bucket, lengths if trims else None)
            else:
                result[rows] = array[: len(rows)]
        calls += 1
        padding += size - len(rows)
    return Values(tuple(results), lengths, calls, padding)


def _calls(
    lengths: Lengths | None, count: int, micro_batch: MicroBatch
) -> Iterator[tuple[int, int, npt.NDArray[np.intp]]]:
    """The calls of the model: padded length (0 without lengths), rows of the call, rows to compute."""
    if lengths is None:
        groups = [(0, micro_batch.rows, np.arange(count))]
    else:
        buckets = np.array([micro_batch.bucket(int(length)) for length in lengths], dtype=np.int64)
        order = np.argsort(buckets, kind="stable")
        found, starts = np.unique(buckets[order], return_index=True)
        parts = np.split(order, starts[1:]) if count else []
        groups = [
            (int(bucket), micro_batch.rows_at(int(bucket)), part)
            for bucket, part in zip(found, parts, strict=True)
        ]
    for bucket, size, rows in groups:
        for start in range(0, len(rows), size):
            yield bucket, size, rows[start : start + size]


def _batched(
    argument: Any, spec: TensorSpec, rows: npt.NDArray[np.intp], bucket: int, pad: int
) -> Array:
    if not isinstance(argument, list):
        return np.ascontiguousarray(argument[rows])
    shape = tuple(bucket if dim is None else dim for dim in spec.shape)
    made = np.full((len(rows), *shape), pad, dtype=spec.numpy_dtype)
    for position, row in enumerate(rows):
        value = argument[row]
        made[position][tuple(slice(0, dim) for dim in value.shape)] = value
    return made


def _empty(spec: TensorSpec, count: int) -> Any:
    if not spec.is_fixed:
        return [None] * count
    return np.empty((count, *(dim or 0 for dim in spec.shape)), dtype=spec.numpy_dtype)


def _place_varying(
    result: list[Any],
    array: Rows,
    spec: TensorSpec,
    rows: npt.NDArray[np.intp],
    bucket: int,
    lengths: Lengths | None,
) -> None:
    for position, row in enumerate(rows):
        value = array[position]
        if lengths is not None:
            # Only a dimension that is the padded length itself can be cut back.
            length = int(lengths[row])
            cut = (
                length if want is None and dim == bucket else dim
                for want, dim in zip(spec.shape, value.shape, strict=True)
            )
            value = value[tuple(slice(0, stop) for stop in cut)]
        result[row] = value


def _check(stage: Stage, columns: Sequence[Rows], count: int) -> None:
    if len(columns) != len(stage.outputs):
        raise OutputMismatchError(
            f"stage {stage.name!r} gave {len(columns)} results, its graph promises {len(stage.outputs)}"
        )
    for spec, rows in zip(stage.outputs, columns, strict=True):
        if len(rows) != count:
            raise OutputMismatchError(
                f"stage {stage.name!r} gave {len(rows)} rows for {count}; a row-wise model is required"
            )
        if isinstance(rows, list):
            continue
        dims = rows.shape[1:]
        fits = len(dims) == len(spec.shape) and all(
            want is None or got == want for got, want in zip(dims, spec.shape, strict=True)
        )
        if not fits or rows.dtype != spec.numpy_dtype:
            raise OutputMismatchError(
                f"stage {stage.name!r} gave {rows.dtype} {dims} for {spec.name!r}, expected {spec.dtype} {spec.shape}"
            )
