"""The rows of a batch that are what the model takes, apart from those that are not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import pyarrow as pa

from kvspark.errors import DataError, RowError, SchemaError
from kvspark.infer.rows.bad_rows import INPUT, BadRow, Indices
from kvspark.infer.rows.columns import Column, column
from kvspark.spec import TensorSpec


@final
@dataclass(frozen=True, slots=True)
class Readable:
    """The rows of a batch that can be computed."""

    columns: Mapping[str, Column]
    """Of the good rows."""
    good: Indices
    """Their places in the batch."""
    bad: Mapping[int, BadRow]
    """The other rows, by place."""


def read_all(arrays: Mapping[str, pa.Array], specs: Sequence[TensorSpec], count: int) -> Readable:
    """All rows of a batch of `count` rows, whose columns are `arrays`.

    Raises:
        DataError: a row is bad; says which is the first and what is wrong with it.
        SchemaError: a column has another type.
    """
    return Readable(
        {spec.name: _read(arrays[spec.name], spec) for spec in specs}, np.arange(count), {}
    )


def _read(array: pa.Array, spec: TensorSpec) -> Column:
    try:
        return column(array, spec)
    except SchemaError:
        raise
    except DataError as exc:
        bad = unreadable(array, spec)
        if not bad:
            raise RowError(str(exc)) from None
        row, why = next(iter(bad.items()))
        raise why.refused(row, more=len(bad) - 1) from None


def readable(arrays: Mapping[str, pa.Array], specs: Sequence[TensorSpec], count: int) -> Readable:
    """The good rows of a batch of `count` rows, whose columns are `arrays`.

    A row is bad if one of its values is null, has another shape than the model takes, or holds a
    null or a number that the model's dtype cannot hold. Where two are wrong, the first input tells.

    Raises:
        SchemaError: a column has another type.
    """
    try:
        columns = {spec.name: column(arrays[spec.name], spec) for spec in specs}
        return Readable(columns, np.arange(count), {})
    except SchemaError:
        raise
    except DataError:
        bad: dict[int, BadRow] = {}
        for spec in specs:
            for row, why in unreadable(arrays[spec.name], spec).items():
                bad.setdefault(row, why)
    good = np.array([row for row in range(count) if row not in bad], dtype=np.intp)
    kept = pa.array(good)
    columns = {spec.name: column(arrays[spec.name].take(kept), spec) for spec in specs}
    return Readable(columns, good, bad)


def unreadable(array: pa.Array | pa.ChunkedArray, spec: TensorSpec) -> dict[int, BadRow]:
    """The rows of `array` that are no values of the input `spec`, by place in order.

    Nulls are seen at once; the others by halving, since `column` is what knows them.
    """
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    nulls = np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))
    null = BadRow(INPUT, "NullValue", f"input {spec.name!r} is null")
    bad = {int(row): null for row in nulls}
    there = np.flatnonzero(array.is_valid().to_numpy(zero_copy_only=False))
    _halve(array.take(pa.array(there)), spec, there, bad)
    return dict(sorted(bad.items()))


def _halve(array: pa.Array, spec: TensorSpec, rows: Indices, bad: dict[int, BadRow]) -> None:
    todo = [(0, len(array))]
    while todo:
        start, stop = todo.pop()
        try:
            column(array[start:stop], spec)
        except DataError as exc:
            if stop - start == 1:
                bad[int(rows[start])] = BadRow(INPUT, "WrongValue", str(exc))
                continue
            middle = (start + stop) // 2
            todo += [(start, middle), (middle, stop)]
