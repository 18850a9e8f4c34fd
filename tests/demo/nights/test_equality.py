from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvspark.demo.nights.equality import first_difference

FLOATS = st.lists(st.floats(width=32), min_size=1, max_size=20)
NAN_BITS = (0x7FC00000, 0x7FC00001)


def table(values: object, kind: pa.DataType, *, ids: list[int] | None = None) -> pa.Table:
    column = pa.array(values, type=kind)
    return pa.table({"id": pa.array(ids or range(len(column))), "x": column})


@given(values=FLOATS, seed=st.randoms())
def test_a_table_in_another_order_is_the_same(values: list[float], seed: object):
    one = table(values, pa.float32())
    order = list(range(len(values)))
    seed.shuffle(order)  # type: ignore[attr-defined]  # Hypothesis' random.Random
    assert first_difference(one, one.take(order), key="id") is None


@given(values=FLOATS, bit=st.integers(0, 31), place=st.integers(0, 19))
def test_one_bit_of_one_number_is_a_difference(values: list[float], bit: int, place: int):
    numbers = np.array(values, dtype=np.float32)
    flipped = numbers.view(np.uint32).copy()
    flipped[place % len(flipped)] ^= np.uint32(1 << bit)
    one, other = (table(v, pa.float32()) for v in (numbers, flipped.view(np.float32)))
    assert first_difference(one, other, key="id") == "column x"


@pytest.mark.parametrize(
    ("kind", "value", "other"),
    [
        (pa.float64(), 0.0, -0.0),
        (pa.list_(pa.float32()), [1.0, 0.0], [1.0, -0.0]),
        (pa.list_(pa.float32(), 2), [1.0, 0.0], [1.0, -0.0]),
        (pa.struct([("a", pa.list_(pa.float32()))]), {"a": [0.0]}, {"a": [-0.0]}),
        (pa.map_(pa.string(), pa.float32()), [("k", 0.0)], [("k", -0.0)]),
        (pa.string(), "a", "b"),
        (pa.int64(), 2**53, 2**53 + 1),
        (pa.int32(), 1, None),
    ],
    ids=lambda value: str(value) if isinstance(value, pa.DataType) else "",
)
def test_values_of_any_type_are_compared(kind: pa.DataType, value: object, other: object):
    assert (
        first_difference(table([value, None], kind), table([value, None], kind), key="id") is None
    )
    assert first_difference(table([value], kind), table([other], kind), key="id") == "column x"


def test_the_same_nan_is_the_same_and_another_is_not():
    one, other = (
        table(np.array([bits], np.uint32).view(np.float32), pa.float32()) for bits in NAN_BITS
    )
    assert first_difference(one, one, key="id") is None
    assert first_difference(one, other, key="id") == "column x"


def test_rows_and_schema_are_part_of_a_table():
    one = table([1.0, 2.0], pa.float32())
    assert first_difference(one, one.slice(1), key="id") == "rows: 2 and 1"
    assert str(first_difference(one, one.drop(["x"]), key="id")).startswith("schema")
    assert str(first_difference(one, table([1.0, 2.0], pa.float64()), key="id")).startswith(
        "schema"
    )


def test_other_chunks_are_the_same_table():
    one = table([1.0, 2.0, 3.0], pa.float32())
    assert (
        first_difference(one, pa.concat_tables([one.slice(0, 1), one.slice(1)]), key="id") is None
    )
