"""Calls a stage's computation in a fixed shape: fills the call up, and checks what comes back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, final

import numpy as np
import numpy.typing as npt

from kvspark.errors import OutputMismatchError
from kvspark.infer.compute.bad_row_rule import is_of_a_row
from kvspark.infer.compute.calls import AS_THEY_ARE, Call
from kvspark.infer.compute.given_rows import Given
from kvspark.infer.compute.short_calls import ShortCalls
from kvspark.infer.rows.bad_rows import Indices
from kvspark.model.run.computation import Computation
from kvspark.model.stage.stage import Source, Stage
from kvspark.spec import Rows

Array = npt.NDArray[np.generic]


@final
class Caller:
    """Calls a stage for some of the rows of its arguments, and counts the calls."""

    def __init__(
        self,
        stage: Stage,
        computation: Computation,
        given: Given,
        computed: Collection[str],
        *,
        rows_are_own: bool,
        short: ShortCalls | None = None,
    ) -> None:
        """`short` tries calls of fewer rows beside whole ones."""
        self.stage = stage
        self._short = short
        self._rows_are_own = rows_are_own
        self._computed = computed
        self._computation = computation
        self._given = given
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
                wait = self._computation.submit(self._filled(bucket, size, rows))
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
        run = submitted or partial(self._run, bucket, size, rows)
        # A row that has no result alone may have one beside its own copy.
        repeats = size == 1 and self._rows_are_own
        made = self._of_one_row(run, bucket, rows) if repeats else run()
        _check(self.stage, made, size)
        return made

    def _run(self, bucket: int, size: int, rows: Indices) -> tuple[Rows, ...]:
        filled = self._filled(bucket, size, rows)
        if self._short is None or bucket == AS_THEY_ARE:
            return self._computation.run(filled)
        return self._short.run(filled, bucket, size)

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
            both = self._computation.run(self._filled(bucket, 2, rows))
        except Exception:  # noqa: BLE001 - a stage raises what it likes
            return None
        made = tuple(result[:1] for result in both if len(result) == 2)
        return made if _has_one_row(self.stage, made) else None

    def _filled(self, bucket: int, size: int, rows: Indices) -> list[Array]:
        filled = np.concatenate([rows, np.repeat(rows[:1], size - len(rows))])
        return [
            _stacked(argument, filled)
            if source.stage in self._computed
            else _padded(argument, source, filled, bucket)
            for argument, source in zip(self._given.arguments, self.stage.sources, strict=True)
        ]

    def as_it_is(self, rows: Indices) -> tuple[Rows, ...]:
        """The results of `rows` where the shape of a call does not matter."""
        given = self._given if len(rows) == self._given.count else self._given.take(rows)
        made = self._computation.run(given.arguments)
        _check(self.stage, made, len(rows))
        return made


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
