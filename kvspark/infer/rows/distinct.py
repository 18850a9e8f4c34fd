"""Which rows are equal, found column by column in Arrow's hash tables: no Python object for a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import pyarrow as pa

from kvspark.infer.rows.columns import Column, Indices


@final
@dataclass(frozen=True, slots=True)
class Distinct:
    """The distinct rows among n rows, in order of their first row."""

    place_of_row: Indices
    """(n,): for each row, its place among the distinct ones."""
    first_row: Indices
    """For each distinct row, the first row that has its values."""

    def __len__(self) -> int:
        return len(self.first_row)


def all_of(count: int) -> Distinct:
    """Those of `count` rows of which none equals another."""
    rows = np.arange(count)
    return Distinct(rows, rows)


def distinct(columns: Sequence[Column]) -> Distinct:
    """The distinct rows of `columns`, of which there is at least one.

    Guarantees: two rows have one place if and only if their canonical bytes are equal.
    """
    places, size = _encoded(columns[0].equality())
    for column in columns[1:]:
        more, more_size = _encoded(column.equality())
        # Below n * n, so it fits; the pair of places tells the pair of values.
        places, size = _encoded(pa.array(places * more_size + more))
    first_row = np.empty(size, dtype=np.intp)
    # Of rows that are assigned to one place the last one stays: the first row, counted backwards.
    first_row[places[::-1]] = np.arange(len(places) - 1, -1, -1)
    return Distinct(places, first_row)


def _encoded(array: pa.Array) -> tuple[Indices, int]:
    """The place of each value among the distinct ones, in order of first use, and their number."""
    made = array.dictionary_encode()
    return made.indices.to_numpy().astype(np.intp), len(made.dictionary)


def row_keys(columns: Sequence[Column]) -> list[bytes]:
    """The canonical bytes of each row."""
    parts = [column.row_bytes() for column in columns]
    return parts[0] if len(parts) == 1 else [b"".join(row) for row in zip(*parts, strict=True)]
