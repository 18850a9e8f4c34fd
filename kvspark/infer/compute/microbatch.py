"""Runs a stage on rows: grouped by the length of a call, in calls of a fixed shape.

The shape of a call follows from a row's own length, and the last call of a group is filled with
copies of its first row. So a row meets the same shape whatever else is computed, and torch gives it
the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, final

import numpy as np
import numpy.typing as npt

from kvspark.errors import OutputMismatchError
from kvspark.infer.compute.bad_row_rule import BadRowRule, Refuse, is_of_a_row
from kvspark.infer.compute.bad_rows import BadRow, BadRows, Indices, Lengths
from kvspark.infer.compute.calls import AS_THEY_ARE, Call, calls_of
from kvspark.model.run.computation import Computation
from kvspark.model.stage.stage import Source, Stage
from kvspark.spec import Rows, Shapes, TensorSpec

Array = npt.NDArray[np.generic]


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
        columns = tuple(
            [column[i] for i in rows] if isinstance(column, list) else column[rows]
            for column in self.columns
        )
        lengths = None if self.lengths is None else self.lengths[rows]
        return Values(columns, lengths), [keys[i] for i in rows]


def compute(
    stage: Stage,
    computation: Computation,
    arguments: Sequence[Any],
    lengths: Lengths | None,
    count: int,
    shapes: Shapes,
    *,
    trims: bool,
    computed: Collection[str] = (),
    rule: BadRowRule | None = None,
    bad: Mapping[int, BadRow] | None = None,
) -> Values:
    """The results of `stage` for `count` rows, but for those that are `bad` already.

    Shapes: an argument is an array (n, *shape), a list of n arrays, or a list of n texts; what comes from
    one of the stages in `computed` has the shape of a call already. With `trims` a result's padding is cut
    off, else it is kept, bit for bit, for the next stage.

    Raises:
        OutputMismatchError: the stage gives other rows, shapes or dtypes than it promises.
        RowError: the stage raises on a row, and `rule` does not set it aside.
    """
    rule, found = rule or Refuse(), dict(bad or {})
    rows = np.setdiff1d(np.arange(count), list(found)) if found else np.arange(count)
    caller = _Caller(stage, computation, arguments, computed, rows_are_own=shapes.rows_are_own)
    if not stage.is_batched:
        columns = _features(caller, rows, count, rule, found)
        varies = [c for c, spec in zip(columns, stage.outputs, strict=True) if not spec.is_fixed]
        own = np.array([len(row) for row in varies[0]], dtype=np.int64) if varies else lengths
        return Values(columns, own, bad=found)
    cuts = trims and not shapes.length_rule.is_exact
    results = [_empty(spec, count) for spec in stage.outputs]
    calls = calls_of(stage, arguments, lengths, rows, shapes, computed=computed)
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


@final
class _Caller:
    """Calls a stage for some of the rows of its arguments, and counts the calls."""

    def __init__(
        self,
        stage: Stage,
        computation: Computation,
        arguments: Sequence[Any],
        computed: Collection[str],
        *,
        rows_are_own: bool,
    ) -> None:
        self.stage = stage
        self._rows_are_own = rows_are_own
        self._computed = computed
        self._computation = computation
        self._arguments = arguments
        self.calls = 0
        self.padding_rows = 0
        self._submitted: dict[int, tuple[Indices, Callable[[], tuple[Rows, ...]]]] = {}
        """By its first row, what runs already: its rows, and what waits for its results."""

    def ahead(self, calls: Iterable[Call]) -> Iterator[Call]:
        """The `calls`, each of which is submitted before the one before it is waited for.

        Where the device computes beside this thread: it has work while results are brought back.
        """
        if not self._computation.overlaps:
            yield from calls
            return
        before: Call | None = None
        for bucket, size, rows in calls:
            # What it raises now is raised again, in its place, when the rows are called.
            with suppress(Exception):
                wait = self._computation.submit(self._given(bucket, size, rows))
                self._submitted[int(rows[0])] = (rows, wait)
            if before is not None:
                yield before
            before = (bucket, size, rows)
        if before is not None:
            yield before

    def in_shape(self, bucket: int, size: int, rows: Indices) -> tuple[Rows, ...]:
        """The results of `rows`, and behind them of the copies that fill the call up to `size`."""
        self.calls += 1
        self.padding_rows += size - len(rows)
        whole, wait = self._submitted.pop(int(rows[0]), (None, None))
        submitted = wait if wait is not None and whole is rows else None
        run = submitted or (lambda: self._computation.run(self._given(bucket, size, rows)))
        made = self._of_one_row(run, bucket, rows) if self._repeats(size) else run()
        _check(self.stage, made, size)
        return made

    def _repeats(self, size: int) -> bool:
        """True if a row that has no result alone may have one beside its own copy."""
        return size == 1 and self._rows_are_own

    def _of_one_row(
        self, run: Callable[[], tuple[Rows, ...]], bucket: int, rows: Indices
    ) -> tuple[Rows, ...]:
        """The results of a call with one row; of one with the row twice where it alone has none.

        A module that squeezes its results loses the dimension of the rows with it. What one row raises is
        raised where two do so as well.
        """
        twice = partial(self._twice, bucket, rows)
        try:
            made = run()
        except Exception as error:  # raised again, unless two rows have a result
            both = twice() if is_of_a_row(error) else None
            if both is None:
                raise
            return both
        return made if _has_one_row(self.stage, made) else twice() or made

    def _twice(self, bucket: int, rows: Indices) -> tuple[Rows, ...] | None:
        """The results of a row beside its own copy; None where there are none."""
        try:
            both = self._computation.run(self._given(bucket, 2, rows))
        except Exception:  # noqa: BLE001 - a stage raises what it likes
            return None
        made = tuple(result[:1] for result in both if len(result) == 2)
        return made if _has_one_row(self.stage, made) else None

    def _given(self, bucket: int, size: int, rows: Indices) -> list[Array]:
        filled = np.concatenate([rows, np.repeat(rows[:1], size - len(rows))])
        return [
            _stacked(argument, filled)
            if source.stage in self._computed
            else _padded(argument, source, filled, bucket)
            for argument, source in zip(self._arguments, self.stage.sources, strict=True)
        ]

    def as_it_is(self, count: int, rows: Indices) -> tuple[Rows, ...]:
        """The results of `rows`, of `count`, where the shape of a call does not matter."""
        given = self._arguments
        if len(rows) < count:
            given = [
                [argument[i] for i in rows] if isinstance(argument, list) else argument[rows]
                for argument in given
            ]
        made = self._computation.run(given)
        _check(self.stage, made, len(rows))
        return made


def _features(
    caller: _Caller, rows: Indices, count: int, rule: BadRowRule, bad: dict[int, BadRow]
) -> tuple[Rows, ...]:
    """The results of a stage that is not called in a fixed shape, and so can give all rows at once."""
    stage = caller.stage
    call = partial(caller.as_it_is, count)
    parts = [
        part
        for portion in rule.portions(rows)
        for part in rule.results(stage.name, portion, call, bad)
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


def _stacked(argument: Any, rows: Indices) -> Array:
    """Results of an earlier call: those of equal rows have equal shapes."""
    if isinstance(argument, list):
        return np.stack([argument[row] for row in rows])
    return np.ascontiguousarray(argument[rows])


def _padded(argument: Any, source: Source, rows: Indices, bucket: int) -> Array:
    if not isinstance(argument, list):
        return np.ascontiguousarray(argument[rows])
    spec = source.tensor
    length = len(argument[rows[0]]) if bucket == AS_THEY_ARE else bucket
    shape = tuple(length if dim is None else dim for dim in spec.shape)
    made = np.full((len(rows), *shape), source.pad, dtype=spec.numpy_dtype)
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


def _has_one_row(stage: Stage, columns: Sequence[Rows]) -> bool:
    return len(columns) == len(stage.outputs) and all(
        isinstance(rows, list) or (rows.shape[:1] == (1,) and rows.ndim == 1 + len(spec.shape))
        for rows, spec in zip(columns, stage.outputs, strict=True)
    )


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
