"""Columns of bytes: from Arrow, to canonical bytes, to what a stage takes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvspark.errors import DataError, SchemaError
from kvspark.infer.rows.array_columns import arrow_column
from kvspark.infer.rows.arrow import arrow_type, check_input_type
from kvspark.infer.rows.columns import BinaryColumn, TensorColumn, column, concat_columns
from kvspark.spec import BINARY, STRING, TensorSpec

IMAGE = TensorSpec("image", BINARY)
TEXT = TensorSpec("text", STRING)
ROWS = [b"", b"\x00", b"\x00\x00", b"\xff\xd8\xff", b"text"]


def binary(rows: list[bytes] = ROWS, type_: pa.DataType | None = None) -> BinaryColumn:
    made = column(pa.array(rows, type_ or pa.binary()), IMAGE)
    assert isinstance(made, BinaryColumn)
    return made


def test_bytes_are_a_column_of_varying_size_and_no_length() -> None:
    assert not IMAGE.is_fixed
    assert IMAGE.bytes_per_row is None
    assert arrow_type(IMAGE) == pa.binary()
    assert binary().lengths is None
    assert len(binary()) == len(ROWS)
    assert binary().size_bytes >= sum(map(len, ROWS))


def test_canonical_bytes_are_a_tag_a_length_and_the_content() -> None:
    assert binary([b"ab"]).row_bytes() == [b"Y\x02\x00\x00\x00\x00\x00\x00\x00ab"]


def test_bytes_and_text_of_the_same_content_have_other_canonical_bytes() -> None:
    text = column(pa.array(["ab"]), TEXT)
    assert text.row_bytes() != binary([b"ab"]).row_bytes()


@given(st.binary(max_size=9))
def test_two_inputs_of_bytes_cannot_be_mistaken_for_two_others(joined: bytes) -> None:
    cuts = [[joined[:i], joined[i:]] for i in range(len(joined) + 1)]
    assert len({b"".join(binary(cut).row_bytes()) for cut in cuts}) == len(cuts)


@pytest.mark.parametrize("type_", [pa.binary(), pa.large_binary()], ids=str)
def test_the_argument_is_a_list_of_bytes(type_: pa.DataType) -> None:
    assert binary(type_=type_).argument() == ROWS
    assert binary(type_=type_).row_bytes() == binary().row_bytes()


def test_a_slice_holds_its_own_rows_only() -> None:
    sliced = column(pa.array(ROWS, pa.binary())[2:4], IMAGE)
    assert sliced.argument() == ROWS[2:4]
    assert sliced.size_bytes < binary([*ROWS, b"x" * 1000]).size_bytes


def test_rows_are_taken_in_the_order_asked_for() -> None:
    assert binary().take(np.array([3, 0, 3])).argument() == [ROWS[3], ROWS[0], ROWS[3]]


def test_columns_are_laid_end_to_end() -> None:
    whole = concat_columns([binary(ROWS[:2]), binary(ROWS[2:], pa.large_binary())])
    assert whole.argument() == ROWS


def test_chunks_are_one_column() -> None:
    chunked = pa.chunked_array([pa.array(ROWS[:1], pa.binary()), pa.array(ROWS[1:], pa.binary())])
    assert column(chunked, IMAGE).argument() == ROWS


def test_a_null_is_refused() -> None:
    with pytest.raises(DataError, match="input 'image': 1 null among 2 rows"):
        column(pa.array([b"", None], pa.binary()), IMAGE)


@pytest.mark.parametrize(
    ("spec", "type_"),
    [
        (IMAGE, pa.string()),
        (IMAGE, pa.list_(pa.binary())),
        (IMAGE, pa.list_(pa.uint8())),
        (TEXT, pa.binary()),
        (TensorSpec("x", "float32"), pa.binary()),
    ],
    ids=str,
)
def test_a_column_of_another_type_is_refused(spec: TensorSpec, type_: pa.DataType) -> None:
    with pytest.raises(SchemaError, match=f"the model takes {arrow_type(spec)}"):
        check_input_type(type_, spec)


def test_a_list_of_bytes_is_an_input() -> None:
    assert arrow_column([b"a", bytearray(b"b")], IMAGE).to_pylist() == [b"a", b"b"]


def test_a_path_is_not_taken_for_the_content_of_its_file() -> None:
    with pytest.raises(SchemaError, match="takes bytes; got a str, pass the file's content"):
        arrow_column([b"a", "cat.png"], IMAGE)


@given(
    rows=st.integers(0, 4),
    shape=st.lists(st.integers(0, 3), max_size=2),
    dtype=st.sampled_from(["float32", "float16", "int64", "bool"]),
    step=st.integers(1, 2),
)
def test_canonical_bytes_of_a_tensor_are_a_tag_a_length_and_its_items(
    rows: int, shape: list[int], dtype: str, step: int
) -> None:
    drawn = np.random.default_rng(rows).integers(0, 2, (rows * step, *shape)).astype(dtype)[::step]
    content = [row.astype(drawn.dtype.newbyteorder("<")).tobytes() for row in drawn]
    expected = [b"B" + len(row).to_bytes(8, "little") + row for row in content]
    assert TensorColumn(drawn).row_bytes() == expected
