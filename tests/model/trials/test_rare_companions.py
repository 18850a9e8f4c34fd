"""What a row does to others only by a number that few rows have: NaN, infinity, the greatest, 0."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper

from kvspark.errors import NotRepeatableError
from kvspark.infer.model import Model
from kvspark.spec import TensorSpec
from tests import callables
from tests.model.trials.test_company import ALONE, X, Y, of_torch, rows
from tests.onnx_models import floats, write


def with_rare() -> np.ndarray:
    """Rows of ordinary numbers, and some of the others."""
    given = rows()
    given[5, 1], given[9, 0], given[14, 2], given[20] = np.nan, np.inf, -3e38, 0
    return given


SPREADING: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "NaN": lambda x: x + torch.isnan(x).any(),
    "infinity": lambda x: x + torch.isinf(x).any(),
    "a great number": lambda x: x + (x > 1e20).any(),
    "a small number": lambda x: x + (x < -1e30).any(),
    "zero": lambda x: x + (x == 0).any(),
    "a bound for all": lambda x: x / x.abs().max().clamp(min=1e30) * 1e30,
}


@pytest.mark.parametrize("kind", SPREADING)
def test_a_module_in_which_a_rare_number_reaches_other_rows_is_refused(kind: str) -> None:
    function = SPREADING[kind]
    with pytest.raises(NotRepeatableError, match=r"'output' of a row changes .* beside "):
        of_torch(function, example_inputs={"x": torch.randn(2, 4)})
    made = of_torch(function, micro_batch=ALONE).predict({"x": with_rare()})["output"]
    for row, got in zip(with_rare(), made, strict=True):
        assert got.tobytes() == function(torch.from_numpy(row[None])).numpy().tobytes()


def filled(x: torch.Tensor) -> torch.Tensor:
    return torch.where(x.isnan(), x.nanmean(), x)


def bounded(x: torch.Tensor) -> torch.Tensor:
    return torch.where(x.isinf(), torch.where(x.isinf(), 0, x).amax(), x)


@pytest.mark.parametrize("function", [filled, bounded])
def test_a_module_that_fills_a_gap_from_other_rows_is_refused(
    function: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    """No row without a gap changes, and the row that has one does."""
    with pytest.raises(NotRepeatableError, match=r"'output' of a row changes .* beside others"):
        of_torch(function)
    with pytest.raises(NotRepeatableError, match=r"'y' of a row changes .* beside others"):
        Model.from_callable(callables.filled, fingerprint="1", inputs=[X], outputs=[Y])


@pytest.mark.parametrize("function", [torch.isnan, torch.nan_to_num, torch.signbit, torch.sign])
def test_a_module_that_looks_at_rare_numbers_row_by_row_is_taken(
    function: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    assert of_torch(function).verify({"x": with_rare()}).verdict == "equal bits"


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.float64, torch.bfloat16])
def test_the_ends_of_each_dtype_are_tried(dtype: torch.dtype) -> None:
    least = (torch.finfo if dtype.is_floating_point else torch.iinfo)(dtype).min

    class Spreads(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.float() + (x == least).any()

    with pytest.raises(NotRepeatableError, match="beside rows of the greatest numbers and 0"):
        Model.from_torch(Spreads().eval(), {"x": torch.ones(2, 3, dtype=dtype)})


def test_a_function_and_a_file_are_tried_with_rare_numbers_too(tmp_path: Path) -> None:
    with pytest.raises(NotRepeatableError, match="beside rows of NaN"):
        Model.from_callable(callables.without_nan, fingerprint="1", inputs=[X], outputs=[Y])
    nodes = [
        helper.make_node("IsNaN", ["x"], ["n"]),
        helper.make_node("Cast", ["n"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["f"], ["most"], keepdims=0),
        helper.make_node("Add", ["x", "most"], ["y"]),
    ]
    path = write(tmp_path / "m.onnx", nodes, [floats("x", "n", 4)], [floats("y", "n", 4)], [])
    with pytest.raises(NotRepeatableError, match="beside rows of NaN"):
        Model.from_onnx(path)


def test_ids_of_a_table_have_no_rare_numbers() -> None:
    torch.manual_seed(1)
    model = Model.from_torch(
        torch.nn.Embedding(10, 4).eval(), {"input": torch.zeros(2, 3, dtype=torch.int64)}
    )
    ids = np.random.default_rng(1).integers(0, 10, (40, 3))
    assert model.verify({"input": ids}).verdict == "equal bits"


def test_a_function_that_refuses_rare_numbers_is_taken() -> None:
    model = Model.from_callable(
        callables.finite_only,
        fingerprint="1",
        inputs=[X],
        outputs=[TensorSpec("y", "float32", (4,))],
    )
    assert model.predict({"x": rows()})["y"].tobytes() == rows().tobytes()
