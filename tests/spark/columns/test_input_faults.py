"""Which column of a made input is to blame for a bad row."""

from __future__ import annotations

import pyarrow as pa
import pytest

from kvspark.errors import RowError
from kvspark.infer.rows.bad_rows import INPUT, BadRow
from kvspark.spark.columns.input_faults import InputFaults

NULL = BadRow(INPUT, "NullValue", "input 'x': column 'a' is null")
WRONG = BadRow(INPUT, "WrongValue", "input 'x': column 'b' holds a value that is no float")
FAULTS = InputFaults(2, (NULL, WRONG))


def numbers(*values: int) -> pa.Array:
    return pa.array(values, pa.int32())


@pytest.mark.parametrize("in_parts", [False, True])
def test_the_first_row_that_has_a_fault_is_refused_by_its_column(in_parts: bool) -> None:
    given = numbers(0, 0, 2, 0, 1)
    with pytest.raises(RowError, match=r"no float \(and 1 more of 5 rows\); write it") as caught:
        FAULTS.refuse(pa.chunked_array([given[:1], given[1:]]) if in_parts else given)
    assert (caught.value.row, caught.value.kind) == (2, "WrongValue")
    with pytest.raises(RowError, match=r"column 'a' is null; the model takes none: give a default"):
        FAULTS.refuse(numbers(0, 1))
    for none in (numbers(), numbers(0, 0), pa.chunked_array([], pa.int32())):
        FAULTS.refuse(none)


def test_a_bad_row_is_told_by_its_column_where_the_input_was_bad() -> None:
    later = BadRow("output", "ValueError", "it raised ValueError")
    plain = BadRow(INPUT, "NullValue", "input 'x' is null")
    bad = {0: plain, 2: plain, 3: later}
    told = FAULTS.by_column(numbers(1, 0, 0, 2), bad)
    assert told == {0: NULL, 2: plain, 3: later}
