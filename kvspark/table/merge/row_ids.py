"""Ids of rows: the values of the columns by which a merge knows a row again (`output.merge_by`)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from kvspark.errors import DataError, UsageError
from kvspark.wording import count_of


def check_id_types(fields: Iterable[pa.Field]) -> None:
    """Does nothing if rows are known again by `fields`: equal values are of one row, in every reader.

    Raises:
        UsageError: a column has another type.
    """
    for field in fields:
        if not any(is_one(field.type) for is_one in _KINDS):
            raise refused_id(field.name, str(field.type))


def refused_id(name: str, kind: str) -> UsageError:
    """The error for a column `name` of type `kind` that is to be an id."""
    return UsageError(
        f"output.merge_by names {name!r} of type {kind}, by which rows are not known again; nothing was written, name columns "
        "of whole numbers, texts, dates or decimals"
    )


_KINDS = (
    pa.types.is_signed_integer,
    pa.types.is_string,
    pa.types.is_date32,
    pa.types.is_decimal128,
)


@final
@dataclass(frozen=True, slots=True)
class RowIds:
    """A set of ids; a value that travels to workers."""

    rows: pa.Table
    """The id columns, a row for each id, in no order."""

    @classmethod
    def of(cls, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> RowIds:
        """Those of `batches`, of the columns `schema`, whatever else these have."""
        chosen = [batch.select(schema.names).cast(schema) for batch in batches]
        return cls(pa.Table.from_batches(chosen, schema=schema))

    @property
    def count(self) -> int:
        """How many they are; one that is there twice counts twice."""
        return int(self.rows.num_rows)

    def also(self, others: RowIds) -> RowIds:
        """These and `others`."""
        return RowIds(pa.concat_tables([self.rows, others.rows.cast(self.rows.schema)]))

    def without(self, others: RowIds) -> RowIds:
        """These without those that are among `others`."""
        return RowIds(self.rows.filter(pa.array(~others.among(self.rows))))

    def check(self, what: str) -> None:
        """Does nothing if each is whole, and there once. `what` is what messages call the rows.

        Raises:
            DataError: one is null in a column, or two rows have the same.
        """
        names = ", ".join(self.rows.column_names)
        for name, column in zip(self.rows.column_names, self.rows.columns, strict=True):
            if column.null_count:
                raise DataError(
                    f"column {name!r} of output.merge_by is null in {count_of(column.null_count, 'row')} of {what}; nothing was "
                    "published, give each row its id, or leave such rows out by input.filter"
                )
        twice = self.count - len(pc.unique(id_values(self.rows)))
        if twice:
            raise DataError(
                f"{names} of output.merge_by is not unique in {what}: {count_of(twice, 'row')} more than ids, so it is not known "
                "which one counts; nothing was published, keep one of each, or name more columns"
            )

    def among(self, rows: pa.RecordBatch | pa.Table) -> npt.NDArray[np.bool_]:
        """Of each of `rows`, which has these columns, whether its id is one of these; a null is none."""
        given = id_values(rows.select(self.rows.column_names).cast(self.rows.schema))
        found = pc.is_in(given, value_set=id_values(self.rows), skip_nulls=True)
        if isinstance(found, pa.ChunkedArray):
            found = found.combine_chunks()
        mask: npt.NDArray[np.bool_] = found.to_numpy(zero_copy_only=False)
        return mask


@final
class IdBounds:
    """Tells of ranges of values whether an id of `ids` may be in them. Dates are days since 1970: Python has fewer of them."""

    def __init__(self, ids: RowIds) -> None:
        self._values: dict[str, Sequence[Any]] = {}
        for name, column in zip(ids.rows.column_names, ids.rows.columns, strict=True):
            if pa.types.is_decimal(column.type):
                continue  # bounds of which may be rounded
            values = pc.unique(column).drop_null()
            self._values[name] = sorted(days_of(values).to_pylist())

    def may_be_in(self, bounds: Mapping[str, tuple[Any, Any]]) -> bool:
        """False only if no id can be of a row whose columns are within `bounds`, both ends included."""
        for name, values in self._values.items():
            low, high = bounds.get(name, (None, None))
            if low is None or high is None:
                continue
            place = bisect_left(values, low)
            if place == len(values) or values[place] > high:
                return False
        return True


def days_of(values: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """`values`, or if these are dates their days since 1970."""
    return values.cast(pa.int32()) if pa.types.is_date32(values.type) else values


def id_values(rows: pa.RecordBatch | pa.Table) -> pa.Array | pa.ChunkedArray:
    """One value for each of `rows`: equal exactly where all its columns are equal, null where one is."""
    if rows.num_columns == 1:
        return rows.column(0)
    # Each text behind its length: no two rows have one text.
    parts = [part for column in rows.columns for part in _with_length(column)]
    return pc.binary_join_element_wise(*parts, ":")


def _with_length(column: pa.Array | pa.ChunkedArray) -> Iterator[pa.Array | pa.ChunkedArray]:
    text = days_of(column).cast(pa.string())  # a date with a year of five digits has no text
    yield pc.binary_length(text).cast(pa.string())
    yield text
