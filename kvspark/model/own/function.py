"""A Python function, called with one row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import numpy as np

from kvspark.model.own.runtime import (
    Array,
    OwnRuntime,
    Row,
    RunRow,
    batch_of_one,
    batched,
    of_one_row,
)
from kvspark.spec import BINARY, STRING, TensorSpec


@final
class Function(OwnRuntime):
    """A function that takes an array (1, *shape) for each input, in order; lists of texts or bytes."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self._fn = fn

    @property
    def name(self) -> str:
        return f"the function {getattr(self._fn, '__qualname__', type(self._fn).__name__)}"

    def open(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> RunRow:
        def run(row: Row) -> Mapping[str, Array]:
            def call(copies: int) -> Mapping[str, Array]:
                made = self._fn(*(_given(row, spec, copies) for spec in inputs))
                # A list is one array, as it is in a job; several results are a tuple or a dict.
                return batched((made,) if isinstance(made, list) else made, outputs)

            return of_one_row(call, outputs)

        return run


def _given(row: Row, spec: TensorSpec, copies: int) -> Any:
    if spec.dtype in (STRING, BINARY):
        return [row[spec.name]] * copies
    return np.repeat(batch_of_one(row, spec), copies, axis=0)
