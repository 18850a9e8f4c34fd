"""A module that squeezes its results loses the dimension of the rows where a call has one row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import helper
from torch import nn

from kvspark.errors import KvsparkError
from kvspark.infer.model import Model
from kvspark.spec import MicroBatch
from tests.model.trials.test_company import ALONE, of_torch
from tests.onnx_models import floats, weight, write
from tests.small_models import seeded

LENGTHS = (2, 3, 8, 21, 64, 65, 100, 300)
"""From 65 on a call of 32 rows has more tokens than a micro-batch."""


class Squeezed(nn.Module):
    """A number for each row, or for each of its tokens."""

    def __init__(self, *, by_token: bool) -> None:
        super().__init__()
        self.head = nn.Linear(4, 1)
        self.by_token = by_token

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.head(x if self.by_token else x.mean(1)).squeeze()
        return made


class Attends(nn.Module):
    """Attention over tokens whose weights are squeezed on the way: a single row raises there."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights = self.head(x).squeeze().softmax(dim=1)
        return torch.bmm(weights.unsqueeze(1), x).squeeze()


KINDS: dict[str, Callable[[], nn.Module]] = {
    "by row": lambda: Squeezed(by_token=False),
    "by token": lambda: Squeezed(by_token=True),
    "attention": Attends,
}


def given() -> list[Any]:
    chance = np.random.default_rng(4)
    return [chance.standard_normal((length, 4)).astype("float32") for length in LENGTHS]


def beside_a_copy(module: nn.Module, row: Any) -> Any:
    with torch.no_grad():
        return module(torch.from_numpy(np.stack([row, row]))).numpy()[0]


@pytest.mark.parametrize("shape", [MicroBatch(), ALONE])
@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_any_length_have_the_modules_numbers(kind: str, shape: MicroBatch) -> None:
    module = seeded(KINDS[kind](), 3)
    examples = {"x": torch.randn(2, 6, 4)}
    model = Model.from_torch(module, examples, variable_length=["x"], micro_batch=shape)
    made = model.predict({"x": given()})["output"]
    for row, got in zip(given(), made, strict=True):
        expected = beside_a_copy(module, row)
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    again = model.predict({"x": given()[::-1]})["output"]
    assert [row.tobytes() for row in again[::-1]] == [row.tobytes() for row in made]


def test_a_token_alone_in_its_row_is_a_bad_row_where_it_has_no_result() -> None:
    module = seeded(Squeezed(by_token=True), 3)
    model = Model.from_torch(module, {"x": torch.randn(2, 6, 4)}, variable_length=["x"])
    made = model.predict({"x": [given()[0][:1], given()[0]]}, on_bad_row="quarantine")
    assert "the model takes lengths from 2" in made["_kvspark_error"][0].message
    assert made["_kvspark_error"][1] is None


def test_a_file_that_squeezes_is_run_row_by_row_and_in_company(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Squeeze", ["h"], ["y"]),
    ]
    inputs, outputs = [floats("x", "n", "length", 4)], [floats("y", "n", "length")]
    path = write(tmp_path / "m.onnx", nodes, inputs, outputs, [weight("w", 4, 1)])
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for shape in (MicroBatch(), ALONE):
        made = Model.from_onnx(path, micro_batch=shape).predict({"x": given()})["y"]
        for row, got in zip(given(), made, strict=True):
            (expected,) = session.run(None, {"x": np.stack([row, row])})
            np.testing.assert_allclose(got, expected[0], rtol=1e-5, atol=1e-6)


def test_a_row_that_others_change_is_never_given_twice() -> None:
    torch.manual_seed(2)
    head = nn.Linear(4, 1)
    model = of_torch(lambda x: head(x / x.shape[0]).squeeze(), micro_batch=ALONE)
    with pytest.raises(KvsparkError, match="row"):
        model.predict({"x": np.ones((3, 4), "float32")})
