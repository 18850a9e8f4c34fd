"""Why a row has no value for an input that Spark makes of columns: which of them is null, or does not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import pyarrow as pa
from pyspark.sql import Column
from pyspark.sql import functions as F

from kvspark.errors import RowError
from kvspark.infer.rows.bad_rows import INPUT, BadRow
from kvspark.spark.columns.input_values import Fault


@final
@dataclass(frozen=True, slots=True)
class InputFaults:
    """What the numbers of one more column say; crosses to the workers."""

    place: int
    """That column's place in the batches that are read."""
    told: tuple[BadRow, ...]
    """What 1, 2, ... stand for; 0 is a row without a fault."""

    def refuse(self, numbers: pa.Array | pa.ChunkedArray) -> None:
        """Does nothing if no row has a fault.

        Raises:
            RowError: the first that has one: the input, the column and the trouble.
        """
        codes = numbers.to_numpy(zero_copy_only=False) if len(numbers) else np.empty(0, "int32")
        rows = np.flatnonzero(codes)
        if not len(rows):
            return
        first = int(rows[0])
        more = f" (and {len(rows) - 1:,} more of {len(codes):,} rows)" if len(rows) > 1 else ""
        why = self.told[int(codes[first]) - 1]
        advice = (
            "the model takes none: give a default in inputs"
            if why.error == "NullValue"
            else "write it with an expr that gives another value"
        )
        raise RowError(
            f"{why.message}{more}; {advice}, filter the rows out, or choose on_bad_row",
            first,
            why.message,
            why.error,
        )

    def explained(self, batch: pa.RecordBatch, bad: Mapping[int, BadRow]) -> dict[int, BadRow]:
        """`bad` rows of `batch`, told by the column that is to blame where there is one."""
        return self.by_column(batch.column(self.place), bad)

    def by_column(
        self, numbers: pa.Array | pa.ChunkedArray, bad: Mapping[int, BadRow]
    ) -> dict[int, BadRow]:
        """`bad` rows told by the column that `numbers` blame, where they blame one."""
        if not bad:
            return dict(bad)
        codes = numbers.to_numpy(zero_copy_only=False)
        return {
            row: self.told[int(codes[row]) - 1] if why.stage == INPUT and codes[row] else why
            for row, why in bad.items()
        }


def fault_number(faults: Sequence[tuple[str, Fault]]) -> tuple[Column, tuple[BadRow, ...]]:
    """A column that says by number which of `faults` holds first in a row, and what each number stands for.

    `faults` come with the input that they are of.
    """
    told = tuple(
        BadRow(INPUT, fault.error, f"input {name!r}: {fault.message}") for name, fault in faults
    )
    cases = [F.when(fault.holds, F.lit(n + 1)) for n, (_, fault) in enumerate(faults)]
    return F.coalesce(*cases, F.lit(0)), told
