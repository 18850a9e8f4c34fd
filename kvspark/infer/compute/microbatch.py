"""Runs a stage on rows: grouped by the length of a call, in calls of a fixed shape.

The shape of a call follows from a row's own length, and the last call of a group is filled with
copies of its first row. So a row meets the same shape whatever else is computed, and torch gives it
the same bits. Where a smaller call was shown to give those bits (`short_calls`), the last ones are smaller.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from kvspark.infer.compute.bad_row_rule import BadRowRule
from kvspark.infer.compute.caller import Caller
from kvspark.infer.compute.calls import calls_of
from kvspark.infer.compute.given_rows import Given
from kvspark.infer.compute.short_calls import ShortCalls
from kvspark.infer.compute.values import Values
from kvspark.infer.rows.bad_rows import BadRow, BadRows, Indices, Lengths
from kvspark.model.run.computation import Computation
from kvspark.model.stage.stage import Stage
from kvspark.spec import Rows, Shapes, TensorSpec


def compute(
    stage: Stage,
    computation: Computation,
    given: Given,
    shapes: Shapes,
    rule: BadRowRule,
    *,
    trims: bool,
    computed: Collection[str],
    short: ShortCalls | None = None,
) -> Values:
    """The results of `stage` for the rows `given`, but for those that are bad already.

    What comes from one of the stages in `computed` has the shape of a call already. With `trims` a result's
    padding is cut off, else it is kept, bit for bit, for the next stage. `short` knows of smaller calls.

    Raises:
        OutputMismatchError: the stage gives other rows, shapes or dtypes than it promises.
        RowError: the stage raises on a row, and `rule` does not set it aside.
    """
    count, lengths, found = given.count, given.lengths, dict(given.bad)
    rows, _ = given.apart()
    caller = Caller(
        stage, computation, given, computed, rows_are_own=shapes.rows_are_own, short=short
    )
    if not stage.is_batched:
        columns = _features(caller, rows, count, rule, found)
        varies = [c for c, spec in zip(columns, stage.outputs, strict=True) if not spec.is_fixed]
        own = np.array([len(row) for row in varies[0]], dtype=np.int64) if varies else lengths
        return Values(columns, own, bad=found)
    cuts = trims and not shapes.length_rule.is_exact
    results = [_empty(spec, count) for spec in stage.outputs]
    calls = calls_of(stage, given.arguments, lengths, rows, shapes, computed=computed, short=short)
    for bucket, size, group in caller.ahead(calls):
        call = partial(caller.in_shape, bucket, size)
        for part, made in rule.results(stage.name, group, call, found):
            for result, array, spec in zip(results, made, stage.outputs, strict=True):
                if isinstance(result, list):
                    _place_varying(result, array, spec, part, bucket, lengths if cuts else None)
                else:
                    result[part] = array[: len(part)]
    _fill(results, stage.outputs, found)
    return Values(tuple(results), lengths, caller.calls, caller.padding_rows, found)


def _features(
    caller: Caller, rows: Indices, count: int, rule: BadRowRule, bad: dict[int, BadRow]
) -> tuple[Rows, ...]:
    """The results of a stage that is not called in a fixed shape, and so can give all rows at once."""
    stage = caller.stage
    parts = [
        part
        for portion in rule.portions(rows)
        for part in rule.results(stage.name, portion, caller.as_it_is, bad)
    ]
    if len(parts) == 1 and len(parts[0][0]) == count:
        return tuple(parts[0][1])
    results = [_empty(spec, count) for spec in stage.outputs]
    for places, made in parts:
        for result, column in zip(results, made, strict=True):
            if isinstance(result, list):
                for place, row in zip(places, column, strict=True):
                    result[place] = row
            else:
                result[places] = column
    _fill(results, stage.outputs, bad)
    return tuple(results)


def _fill(results: Sequence[Any], specs: Sequence[TensorSpec], bad: BadRows) -> None:
    """Zeros in the place of results that there are not."""
    for result, spec in zip(results, specs, strict=True):
        for row in bad:
            result[row] = np.zeros(tuple(dim or 0 for dim in spec.shape), spec.numpy_dtype)


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
