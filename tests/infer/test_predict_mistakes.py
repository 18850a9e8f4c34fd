"""What a person passes to `Model.predict` by mistake is refused in one line that says what to pass."""

from __future__ import annotations

from functools import cache as once
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from kvspark.errors import DataError, KvsparkError, RowError, SchemaError
from kvspark.infer.model import Model
from kvspark.infer.rows.array_columns import arrow_columns
from kvspark.infer.rows.arrow import tensor_array
from kvspark.spec import TensorSpec
from tests.small_models import seeded

LONGEST = 400
SECRET = "Marie Curie"


@once
def linear() -> Model:
    return Model.from_torch(seeded(torch.nn.Linear(4, 2)), {"input": torch.zeros(1, 4)})


@once
def lookup() -> Model:
    example = {"input": torch.zeros(3, dtype=torch.int64)}
    return Model.from_torch(seeded(torch.nn.Embedding(50, 4)), example)


GOOD = [[1.0, 2.0, 3.0, 4.0]]

FLOATS: dict[str, tuple[Any, str]] = {
    "too-wide": (np.zeros((2, 5)), r"an array of 5 values where 4 are expected.*\(and 1 more of"),
    "ragged": ([*GOOD, [1, 2]], "row 1 of the batch: .* an array of 2 values where 4 are expected"),
    "rank-too-high": (np.zeros((2, 4, 1)), r"takes an array of shape \(4\), float32, for each row"),
    "rank-too-low": (np.zeros(4), r"takes an array of shape \(4\), float32, for each row"),
    "none": ([*GOOD, None], "row 1 of the batch: input 'input' is null"),
    "none-inside": ([[1, 2, None, 4]], "row 0 of the batch: input 'input': nulls inside an array"),
    "text": ([[SECRET] * 4], "check the number of its dimensions, and for text or None inside"),
    "nested-unevenly": ([[1, 2, 3, [4]]], "check the number of its dimensions"),
    "one-text": ("abcd", r"takes a list or an array with a value for each row; got one str"),
    "one-number": (3, r"got one int, write \[value\] for one row"),
    "no-dimension": (np.array(1.0), "takes a value for each row; got one number"),
    "dict": ({"a": 1}, "got one dict"),
    "complex": (np.zeros((2, 4), dtype=complex), r"takes an array of shape \(4\), float32"),
    "too-large": ([[1e300] * 4], "row 0 of the batch: .* a number does not fit float32"),
    "too-large-array": (np.full((1, 4), -1e39), "row 0 of the batch: .* does not fit float32"),
    "odd-integer": ([*GOOD, [1, 2, 3, 2**24 + 1]], "row 1 of the batch: .* does not fit float32"),
    "odd-integers": (np.full((1, 4), -(2**24) - 1), "row 0 of the batch: .* does not fit float32"),
    "odd-among-floats": ([[0.5, 2**24 + 1, 3, 4]], "row 0 of the batch: .* does not fit float32"),
    "largest-integers": (np.full((1, 4), 2**63 - 1), "row 0 of the batch: .* does not fit"),
    "largest-unsigned": (np.full((1, 4), 2**64 - 1, "u8"), "row 0 of the batch: .* does not fit"),
    "odd-tensor": (torch.full((1, 4), 2**24 + 1), "row 0 of the batch: .* does not fit float32"),
}

ROUNDED: dict[str, tuple[Any, list[float]]] = {
    "fractions": ([[0.1, 1e-300, 1 / 3, 1e38]], [0.1, 0.0, 1 / 3, 1e38]),
    "not-finite": ([[float("inf"), float("-inf"), float("nan"), 1]], [np.inf, -np.inf, np.nan, 1]),
    "large-floats": (np.full((1, 4), 123456789.0), [123456792.0] * 4),
    "integers-that-fit": ([[2**24, -(2**40), 2**63, 0.5]], [2**24, -(2**40), 2**63, 0.5]),
    "unsigned": (np.full((1, 4), 2**63, "u8"), [2.0**63] * 4),
    "small-integers": (np.full((1, 4), 127, "i1"), [127.0] * 4),
    "booleans": (np.ones((1, 4), bool), [1.0] * 4),
}

INTEGERS: dict[str, tuple[Any, str]] = {
    "fraction": ([3, 3.5], "row 1 of the batch: .* a number does not fit int64"),
    "fraction-array": (np.array([1.0, 3.7]), "row 1 of the batch: .* does not fit int64"),
    "above-int64": ([2**63], "row 0 of the batch: .* does not fit int64"),
    "far-above": ([2**70], "takes one number, int64, for each row"),
    "words": ([SECRET], "takes one number, int64, for each row"),
    "doubles": (pa.array([1.0]), "the column has type double, the model takes int64"),
}


def refused(model: Model, columns: Any) -> str:
    with pytest.raises(KvsparkError) as caught:
        model.predict(columns)
    assert isinstance(caught.value, SchemaError | RowError)
    line = caught.value.line()
    assert len(line) <= LONGEST
    assert SECRET not in line
    return line


@pytest.mark.parametrize("case", FLOATS)
def test_floats_of_another_shape_or_kind_are_refused(case: str) -> None:
    values, said = FLOATS[case]
    with pytest.raises(KvsparkError, match=said):
        linear().predict({"input": values})
    refused(linear(), {"input": values})


@pytest.mark.parametrize("case", ROUNDED)
def test_floats_are_rounded_as_numpy_rounds_them_and_whole_numbers_that_fit_are_kept(
    case: str,
) -> None:
    values, expected = ROUNDED[case]
    given = arrow_columns({"x": values}, [TensorSpec("x", "float32", (4,))])["x"]
    assert given.type == pa.list_(pa.float32())
    made = given.flatten().to_numpy()
    assert made.tobytes() == np.array(expected, "float32").tobytes()


@pytest.mark.parametrize(
    ("dtype", "fits", "odd"),
    [("float16", 2048, 2049), ("bfloat16", 256, 257), ("float64", 2**53, 2**53 + 1)],
)
def test_a_whole_number_is_not_changed_for_any_float(dtype: str, fits: int, odd: int) -> None:
    spec = TensorSpec("x", dtype)
    assert tensor_array(arrow_columns({"x": [fits]}, [spec])["x"], spec) is not None
    with pytest.raises(DataError):
        tensor_array(arrow_columns({"x": [odd]}, [spec])["x"], spec)


@pytest.mark.parametrize("case", INTEGERS)
def test_numbers_are_never_cut_to_integers(case: str) -> None:
    values, said = INTEGERS[case]
    with pytest.raises(KvsparkError, match=said):
        lookup().predict({"input": values})
    refused(lookup(), {"input": values})


def test_an_array_instead_of_a_dict_is_answered_with_the_dict_to_write() -> None:
    assert "takes a dict with the values of all rows, {'input': [...]}; got a ndarray" in refused(
        linear(), np.zeros((2, 4))
    )


def test_a_misspelt_input_is_answered_with_the_nearest_name() -> None:
    assert "input 'input' is missing; got inputs; did you mean 'inputs'?" in refused(
        linear(), {"inputs": GOOD}
    )


@pytest.mark.parametrize(
    "values",
    [
        np.array(GOOD),
        np.array(GOOD, dtype="int64"),
        torch.tensor(GOOD, requires_grad=True),
        torch.tensor(GOOD, dtype=torch.bfloat16),
        [torch.tensor(GOOD[0])],
        pd.Series(GOOD),
        pa.array(GOOD, pa.list_(pa.float32())),
    ],
    ids=["float64", "int64", "with-gradient", "bfloat16", "tensors", "series", "arrow"],
)
def test_the_same_numbers_in_another_container_are_the_same_rows(values: Any) -> None:
    expected = linear().predict({"input": GOOD})["output"]
    assert linear().predict({"input": values})["output"].tobytes() == expected.tobytes()


def test_a_data_frame_and_an_arrow_table_are_columns_too() -> None:
    expected = linear().predict({"input": GOOD})["output"].tobytes()
    table = pa.table({"input": pa.array(GOOD, pa.list_(pa.float32()))})
    for columns in (pd.DataFrame({"input": GOOD}), table):
        assert linear().predict(columns)["output"].tobytes() == expected


def test_no_rows_give_no_rows() -> None:
    empty: list[Any] = [[], np.zeros((0, 4))]
    for values in empty:
        assert linear().predict({"input": values})["output"].shape == (0, 2)


def test_what_a_masked_array_hides_is_no_number() -> None:
    hidden = np.ma.masked_equal([[1.0, 2, 3, 4], [5, 6, 7, 8]], 6)
    with pytest.raises(RowError, match="row 1 of the batch: input 'input': nulls inside an array"):
        linear().predict({"input": hidden})
    made = linear().predict({"input": hidden}, on_bad_row="null")["output"]
    assert made.mask.all(axis=1).tolist() == [False, True]
    assert made[:1].tobytes() == linear().predict({"input": GOOD})["output"].tobytes()
    for ids in (np.ma.masked_equal([1, 2], 2), pd.Series([1, None], dtype="Int64")):
        with pytest.raises(RowError, match="row 1 of the batch: input 'input' is null"):
            lookup().predict({"input": ids})


def test_times_are_no_whole_numbers() -> None:
    with pytest.raises(SchemaError, match="takes one number, int64, for each row"):
        lookup().predict({"input": np.array(["1970-01-01"], "datetime64[ns]")})


def test_a_sparse_tensor_is_its_numbers() -> None:
    plain = torch.tensor(GOOD)
    made = linear().predict({"input": plain.to_sparse()})["output"]
    assert made.tobytes() == linear().predict({"input": plain})["output"].tobytes()


def test_every_bit_of_a_float_reaches_the_model() -> None:
    class Bits(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.view(torch.int32)

    bits = np.array([[0x7F800001, 0xFFC00001], [0x80000000, 1], [0x7FC00000, 0]], dtype="<u4")
    model = Model.from_torch(Bits().eval(), {"x": torch.zeros(2, 2)})
    made = model.predict({"x": bits.view("<f4")})["output"]
    assert made.tobytes() == bits.tobytes()
