"""Rows of a table from several places of it, from which a plan is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import pyarrow as pa

from kvspark.infer.rows.bad_rows import Indices


@final
@dataclass(frozen=True, slots=True)
class SampledRows:
    """Some rows of a table, in its order."""

    arrays: Mapping[str, pa.Array]
    """By model input."""
    places: tuple[int, ...]
    """How many of them follow each other in the table, place by place."""

    @classmethod
    def first(cls, arrays: Mapping[str, pa.Array]) -> SampledRows:
        """The first rows of a table."""
        return cls(arrays, (_count(arrays),))

    @classmethod
    def of(cls, batches: Sequence[pa.RecordBatch], inputs: Mapping[str, str]) -> SampledRows:
        """The rows of `batches`, a place each; `inputs` says which column each model input is. There is a batch at least."""
        table = pa.Table.from_batches(batches)
        arrays = {name: table.column(column).combine_chunks() for name, column in inputs.items()}
        return cls(arrays, tuple(batch.num_rows for batch in batches))

    @property
    def place_of_row(self) -> Indices:
        """(n,): the number of the place where a row is from."""
        return np.repeat(np.arange(len(self.places)), self.places)

    def some(self, rows: int) -> Mapping[str, pa.Array]:
        """About `rows` of them, from all places alike."""
        count = _count(self.arrays)
        if count <= rows:
            return self.arrays
        chosen = pa.array(evenly(count, rows))
        return {name: array.take(chosen) for name, array in self.arrays.items()}


def evenly(count: int, most: int) -> Indices:
    """The places of `most` of `count` rows, all of them where they are no more."""
    return np.arange(count) if count <= most else np.arange(most) * count // most


def _count(arrays: Mapping[str, pa.Array]) -> int:
    return len(next(iter(arrays.values())))
