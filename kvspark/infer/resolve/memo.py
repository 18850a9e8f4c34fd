"""What a worker still has of a stage that few inputs reach: the towers of a model.

A million pairs of 10,000 users and 1,000 items ask for the same rows in window after window. The
store would answer each time; here it takes a fraction of a look-up (D21).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import final

import numpy as np
import numpy.typing as npt

from kvspark.infer.resolve.compiled_plan import CompiledPlan
from kvspark.infer.rows.columns import Indices
from kvspark.spec import Rows, TensorSpec

_KEY_BYTES = 128
"""What a Python string and its place in a dict take besides the bytes of the key."""


@final
class Memo:
    """The latest results of one stage whose rows have a fixed size; the oldest make room."""

    def __init__(self, specs: Sequence[TensorSpec], size_bytes: int) -> None:
        """A memo of at most about `size_bytes`, which are taken as they are filled."""
        self._specs = tuple(specs)
        self._size_bytes = size_bytes
        self._row_bytes = sum(spec.bytes_per_row or 0 for spec in specs)
        self._place: dict[bytes, int] = {}
        self._keys: list[bytes] = []
        """The key at each place."""
        self._columns: tuple[npt.NDArray[np.generic], ...] = ()
        self._next = 0

    def places(self, keys: Sequence[bytes]) -> Indices:
        """The place of each key, -1 where it is not known."""
        found = map(self._place.get, keys, repeat(-1))
        return np.fromiter(found, dtype=np.intp, count=len(keys))

    def take(self, places: Indices) -> tuple[Rows, ...]:
        """The results at `places`, none of which is -1; copies."""
        if not self._columns:
            return tuple(_empty(spec, 0) for spec in self._specs)
        return tuple(column[places] for column in self._columns)

    def add(self, keys: Sequence[bytes], columns: Sequence[Rows]) -> None:
        """Keeps the results of `keys`, distinct and unknown; the last ones where all are too many."""
        if not keys:
            return
        if not self._columns:
            rows = self._size_bytes // (self._row_bytes + len(keys[0]) + _KEY_BYTES)
            self._columns = tuple(_empty(spec, rows) for spec in self._specs)
        capacity = len(self._columns[0])
        kept = min(len(keys), capacity)
        if not kept:
            return
        places = (self._next + np.arange(kept)) % capacity
        for key, place in zip(keys[len(keys) - kept :], places.tolist(), strict=True):
            if place < len(self._keys):
                del self._place[self._keys[place]]
                self._keys[place] = key
            else:
                self._keys.append(key)
            self._place[key] = place
        for mine, given in zip(self._columns, columns, strict=True):
            mine[places] = np.asarray(given)[len(keys) - kept :]
        self._next = (self._next + kept) % capacity


def _empty(spec: TensorSpec, rows: int) -> npt.NDArray[np.generic]:
    # Not touched until it is written: the system gives memory page by page.
    return np.empty((rows, *(dim or 0 for dim in spec.shape)), dtype=spec.numpy_dtype)


def memos_of_towers(compiled: CompiledPlan) -> dict[str, Memo]:
    """A memo for each tower: a stage that fewer inputs reach than the model has.

    Stages with one identity, the two calls of a siamese encoder, have one: what one computed the other finds.
    """
    every = len(compiled.bundle.inputs)
    towers = {
        name: each.identity(b"")
        for name, each in compiled.stages.items()
        if each.stage.bytes_per_row is not None and len(each.stage.inputs) < every
    }
    size_bytes = compiled.plan.memo_bytes // max(1, len(set(towers.values())))
    if not size_bytes:
        return {}
    memos: dict[bytes, Memo] = {}
    for name, identity in towers.items():
        memos.setdefault(identity, Memo(compiled.stages[name].stage.outputs, size_bytes))
    return {name: memos[identity] for name, identity in towers.items()}
