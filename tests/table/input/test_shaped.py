"""Arrays of files in the types of a table: slices, nulls and structs keep their values."""

from __future__ import annotations

import pyarrow as pa
import pytest

from kvspark.table.input.shaped import shaped

LISTS = pa.array([[{"A": 1, "b": "x"}, None], None, [], [{"A": None, "b": None}]])
WANTED = pa.list_(pa.struct({"b": pa.string(), "a": pa.int64(), "c": pa.float32()}))


@pytest.mark.parametrize("start", range(4))
def test_fields_are_found_by_name_also_in_a_slice(start: int) -> None:
    made = shaped(LISTS.slice(start), WANTED)
    made.validate(full=True)
    expected = [
        [{"b": "x", "a": 1, "c": None}, None],
        None,
        [],
        [{"b": None, "a": None, "c": None}],
    ]
    assert made.type == WANTED
    assert made.to_pylist() == expected[start:]


@pytest.mark.parametrize(
    "kind",
    [
        *(pa.list_(pa.float32(), 2), pa.large_list(pa.float32()), pa.list_(pa.float32())),
        *(pa.list_view(pa.float32()), pa.large_list_view(pa.float32())),
    ],
)
def test_lists_of_every_kind_are_lists(kind: pa.DataType) -> None:
    array = pa.array([[1.0, None], None, [3.0, 4.0]], kind).slice(1)
    made = shaped(array, pa.list_(pa.float64()))
    made.validate(full=True)
    assert made.to_pylist() == [None, [3.0, 4.0]]


def test_maps_keep_their_entries() -> None:
    kind = pa.map_(pa.string(), pa.uint16())
    made = shaped(
        pa.array([[("a", 1)], None, [("b", None)]], kind), pa.map_(pa.string(), pa.int32())
    )
    assert made.to_pylist() == [[("a", 1)], None, [("b", None)]]


def test_a_value_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(pa.ArrowInvalid):
        shaped(pa.array([300]), pa.int8())
