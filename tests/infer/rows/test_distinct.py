"""Equal rows are found by their bytes, and in no other way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvspark.infer.rows.columns import Column, column, concat_columns
from kvspark.infer.rows.distinct import distinct, row_keys
from kvspark.spec import BINARY, STRING, TensorSpec

FLOATS = [0.0, -0.0, 1.5, float("nan"), -float("nan"), 1e-45]
CASES: dict[str, tuple[TensorSpec, pa.DataType, list[Any]]] = {
    "text": (TensorSpec("a", STRING), pa.string(), ["", "a", "á", "á", "aa"]),
    "bytes": (TensorSpec("a", BINARY), pa.binary(), [b"", b"\x00", b"\x00\x00", b"b"]),
    "number": (TensorSpec("a", "float32"), pa.float32(), FLOATS),
    "whole": (TensorSpec("a", "int64"), pa.int64(), [0, 1, -1, 2**60]),
    "vector": (
        TensorSpec("a", "float32", (2,)),
        pa.list_(pa.float32()),
        [[x, y] for x in FLOATS for y in FLOATS[:2]],
    ),
    "empty": (TensorSpec("a", "float32", (0,)), pa.list_(pa.float32()), [[]]),
    "ragged": (
        TensorSpec("a", "int64", (None,)),
        pa.list_(pa.int64()),
        [[], [0], [0, 0], [1, 0], [0, 1]],
    ),
}


def made(case: str, picks: list[int]) -> Column:
    spec, type_, values = CASES[case]
    return column(pa.array([values[i % len(values)] for i in picks], type=type_), spec)


@given(
    cases=st.lists(st.sampled_from(sorted(CASES)), min_size=1, max_size=3),
    picks=st.lists(st.integers(0, 11), max_size=30),
    data=st.data(),
)
def test_rows_have_one_place_if_and_only_if_their_bytes_are_equal(
    cases: list[str], picks: list[int], data: st.DataObject
) -> None:
    columns = [
        made(case, data.draw(st.permutations(picks)) if i else picks)
        for i, case in enumerate(cases)
    ]
    rows = distinct(columns)
    keys = row_keys(columns)
    seen = list(dict.fromkeys(keys))
    assert [seen.index(key) for key in keys] == rows.place_of_row.tolist()
    assert [keys.index(key) for key in seen] == rows.first_row.tolist()
    assert len(rows) == len(seen)


@pytest.mark.parametrize("case", CASES)
def test_parts_of_arrays_are_told_apart_like_whole_ones(case: str) -> None:
    whole = made(case, [0, 1, 2, 1, 0, 3])
    part = whole.take(np.arange(1, 5))
    again = concat_columns([whole.take(np.arange(1, 3)), whole.take(np.arange(3, 5))])
    assert distinct([part]).place_of_row.tolist() == distinct([again]).place_of_row.tolist()
