"""A computation that goes on with half of the rows where a GPU's memory does not hold all."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, final

import numpy as np

from kvspark.model.run.computation import Computation
from kvspark.spec import Rows

_LOG = logging.getLogger(__name__)

_Shape = tuple[tuple[int, ...], ...]


@final
class BackingOff(Computation):
    """Calls another computation, and where that runs out of memory, in halves from then on.

    Rows that are computed in another shape may have other last bits, so `is_exact` is False from the
    first halving on, and what is not exact is never cached.
    """

    def __init__(self, inner: Computation, name: str, free: Callable[[], None]) -> None:
        """`free` gives back what the device's allocator holds and does not use."""
        import torch

        self._inner = inner
        self._name = name
        self._free = free
        self._full = torch.OutOfMemoryError
        self._rows_at: dict[_Shape, int] = {}
        """The most rows of a call, for shapes that were too large."""

    @property
    def overlaps(self) -> bool:
        return self._inner.overlaps and self.is_exact

    @property
    def is_exact(self) -> bool:
        return not self._rows_at

    def submit(self, arguments: Sequence[Any]) -> Callable[[], tuple[Rows, ...]]:
        if not self.overlaps:
            return lambda: self.run(arguments)
        try:
            return self._inner.submit(arguments)
        except self._full:
            # Two calls at once may be too much where one is not.
            return lambda: self.run(arguments)

    def run(self, arguments: Sequence[Any]) -> tuple[Rows, ...]:
        count = len(arguments[0])
        shape = tuple(array.shape[1:] for array in arguments)
        while True:
            rows = self._rows_at.get(shape, count)
            try:
                return self._in_parts(arguments, count, rows)
            except self._full:
                self._free()
                if rows == 1 or count == 1:
                    raise
            self._halve(shape, rows)

    def _in_parts(self, arguments: Sequence[Any], count: int, rows: int) -> tuple[Rows, ...]:
        if rows >= count:
            return self._inner.run(arguments)
        parts = [
            self._inner.run([array[start : start + rows] for array in arguments])
            for start in range(0, count, rows)
        ]
        return tuple(np.concatenate(column) for column in zip(*parts, strict=True))

    def _halve(self, shape: _Shape, rows: int) -> None:
        self._rows_at[shape] = rows // 2
        _LOG.warning(
            "stage %s: the GPU's memory does not hold %d rows of a micro-batch; going on with %d. Their "
            "last bits may differ, so nothing of this stage is cached any more; choose fewer rows in "
            "model.micro_batch",
            self._name,
            rows,
            rows // 2,
        )
