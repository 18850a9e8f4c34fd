"""Padding reaches no result: what is tried when a model is made, and what follows from it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from kvspark import Model
from kvspark.errors import ExportError
from kvspark.spec import LengthRule, MicroBatch, TensorSpec
from tests.callables import masked_mean, plain_mean
from tests.small_models import seeded

LENGTHS = (1, 2, 3, 5, 8, 9, 21)
MOST_APART = 1e-5
LONG, LONGEST = 900, 1000
IDS = {"ids": torch.ones(2, 8, dtype=torch.int64)}


class Net(nn.Module):
    """Embeddings of ids, and what `pool` makes of them."""

    def __init__(self, pool: Callable[..., torch.Tensor], part: nn.Module | None = None) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 4)
        self.part = part or nn.Identity()
        self.pool = pool

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.pool(self, self.embed(ids), ids)


def _masked(net: Net, x: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    kept = (ids != 0).unsqueeze(-1).to(x.dtype)
    return (x * kept).sum(1) / kept.sum(1).clamp(min=1)


def _positions(net: Net, x: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    at = torch.arange(ids.shape[1])
    return ((x + net.part(at)) * (ids != 0).unsqueeze(-1)).sum(1)


POOLS: dict[str, tuple[Callable[..., torch.Tensor], Callable[[], nn.Module] | None]] = {
    "mean": (lambda net, x, ids: x.mean(1), None),
    "max": (lambda net, x, ids: x.amax(1), None),
    "sum": (lambda net, x, ids: x.sum(1), None),
    "last": (lambda net, x, ids: x[:, -1], None),
    "attention": (
        lambda net, x, ids: nn.functional.scaled_dot_product_attention(x, x, x)[:, 0],
        None,
    ),
    "convolution": (
        lambda net, x, ids: net.part(x.transpose(1, 2)).amax(2),
        lambda: nn.Conv1d(4, 3, 3, padding=1),
    ),
    "lstm": (
        lambda net, x, ids: net.part(x)[0][:, -1],
        lambda: nn.LSTM(4, 3, batch_first=True, bidirectional=True),
    ),
    "gru": (lambda net, x, ids: net.part(x)[1][-1], lambda: nn.GRU(4, 3, batch_first=True)),
    "token in front": (lambda net, x, ids: torch.cat([x[:, :1] * 0, x], 1), None),
    "stride": (
        lambda net, x, ids: net.part(x.transpose(1, 2)).transpose(1, 2),
        lambda: nn.Conv1d(4, 3, 3, stride=2),
    ),
}


def _made(pool: str) -> tuple[Net, Model]:
    function, part = POOLS[pool]
    net = seeded(Net(function, part and part())).eval()
    return net, Model.from_torch(net, IDS, variable_length=["ids"])


def _rows(lengths: Sequence[int] = LENGTHS) -> list[list[int]]:
    chance = np.random.default_rng(3)
    return [chance.integers(1, 50, size=length).tolist() for length in lengths]


@pytest.mark.parametrize("pool", POOLS)
def test_a_model_that_looks_at_its_padding_is_computed_at_the_rows_own_lengths(pool: str) -> None:
    net, model = _made(pool)
    rule = model.bundle.length_rule
    assert rule.is_exact
    assert rule.reason in str(model.describe())
    rows = [row for row in _rows() if len(row) >= rule.shortest]
    made = model.predict({"ids": rows})["output"]
    for row, got in zip(rows, made, strict=True):
        right = net(torch.tensor([row])).detach().numpy()[0]
        assert right.shape == got.shape
        assert np.abs(right - got).max(initial=0) < MOST_APART


def test_a_model_that_masks_its_padding_is_padded_and_keeps_its_fingerprint() -> None:
    net = seeded(Net(_masked)).eval()
    model = Model.from_torch(net, IDS, variable_length=["ids"])
    assert not model.bundle.length_rule.is_exact
    as_before = model.bundle.with_length_rule(LengthRule())
    assert as_before.fingerprint == model.fingerprint
    exact = model.bundle.with_length_rule(LengthRule(is_exact=True))
    assert exact.fingerprint != model.fingerprint


def test_a_shape_of_its_own_counts_for_stages_with_lengths_only() -> None:
    _, model = _made("lstm")
    padded = model.bundle.with_length_rule(LengthRule())
    for one, other in zip(model.bundle.stages, padded.stages, strict=True):
        assert (one.fingerprint == other.fingerprint) == (not one.has_lengths)


def test_a_row_of_no_length_has_the_modules_result_or_is_a_bad_row() -> None:
    net, model = _made("mean")  # nan, as a mean of nothing is
    assert np.isnan(model.predict({"ids": [[]]})["output"]).all()
    assert np.isnan(net(torch.zeros(1, 0, dtype=torch.int64)).detach().numpy()).all()
    _, model = _made("sum")
    assert (model.predict({"ids": [[]]})["output"] == 0).all()
    _, model = _made("lstm")
    made = model.predict({"ids": [[1], []]}, on_bad_row="quarantine")
    bad = made["_kvspark_error"][1]
    assert bad.message == "input 'ids' has length 0; the model takes lengths from 1"


def _attended(net: Net, x: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Attention whose mask leaves nothing of a row of padding alone: its result there is NaN."""
    del net
    score = x[..., 0].masked_fill(ids == 0, float("-inf"))
    return (score.softmax(1).unsqueeze(-1) * x).sum(1)


def test_a_row_of_no_length_is_not_padded_where_that_changes_it() -> None:
    net = seeded(Net(_attended)).eval()
    model = Model.from_torch(net, IDS, variable_length=["ids"])
    rule = model.bundle.length_rule
    assert (rule.is_exact, rule.shortest, rule.pads_empty) == (False, 0, False)
    shape = model.bundle.micro_batch
    assert [rule.length_in_call(length, shape) for length in (0, 1, 5)] == [0, 4, 8]
    made = model.predict({"ids": [[], [3, 4, 5]]})["output"]
    assert (made[0] == 0).all()
    assert np.abs(made[1] - net(torch.tensor([[3, 4, 5]])).detach().numpy()[0]).max() < MOST_APART


def test_a_padded_length_ends_where_positions_end() -> None:
    net = seeded(Net(_positions, nn.Embedding(50, 4))).eval()
    model = Model.from_torch(net, IDS, variable_length=["ids"])
    rule = model.bundle.length_rule
    assert (rule.is_exact, rule.longest) == (False, 50)
    assert rule.length_in_call(49, MicroBatch()) == 50
    rows = _rows([49, 50])
    made = model.predict({"ids": rows})["output"]
    right = [net(torch.tensor([row])).detach().numpy()[0] for row in rows]
    assert np.abs(made - np.stack(right)).max() < MOST_APART * np.abs(made).max()
    bad = model.predict({"ids": _rows([51])}, on_bad_row="quarantine")["_kvspark_error"][0]
    assert "has length 51; the model takes lengths from 0 to 50" in bad.message


class Branch(nn.Module):
    """Does something else for long rows, or for many."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = ids.to(torch.float32)
        return x.sum(1) * 2 if x.shape[self.dim] > 4 else x.sum(1)


@pytest.mark.parametrize(
    ("dim", "message"), [(0, "a branch on the size of the batch"), (1, "a branch on a length say")]
)
def test_a_branch_on_a_size_is_refused(dim: int, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        Model.from_torch(Branch(dim).eval(), IDS, variable_length=["ids"])


@pytest.mark.parametrize("function", [plain_mean, masked_mean])
def test_a_function_is_tried_too(function: Callable[..., np.ndarray], tmp_path: Path) -> None:
    model = Model.from_callable(
        function,
        fingerprint="1",
        inputs=[TensorSpec("x", "float32", (None,))],
        outputs=[TensorSpec("y", "float32", ())],
    )
    # Of numbers that mask themselves too: a threshold on any of them looks the same from outside.
    assert model.bundle.length_rule.is_exact
    rows = [[1.0, 2.0, 4.0], [3.0]]
    assert model.predict({"x": rows})["y"].tolist() == pytest.approx([7 / 3, 3.0])
    model.save(tmp_path / "m")
    assert Model.load(tmp_path / "m").bundle.length_rule == model.bundle.length_rule


def mean_of_long(x: np.ndarray) -> np.ndarray:
    """Rows that are longer than others lose their own mean, which padding changes."""
    return x - x.mean(axis=1, keepdims=True) if x.shape[1] > LONG else x * 2


def length_of_longest(x: np.ndarray) -> np.ndarray:
    """Rows that are longer than all that have much padding are multiplied by their length."""
    return x * np.float32(x.shape[1]) if x.shape[1] > LONGEST else x * 2


@pytest.mark.parametrize(
    ("function", "length"), [(mean_of_long, LONG + 3), (length_of_longest, LONGEST + 3)]
)
def test_long_rows_are_tried_too(function: Callable[..., np.ndarray], length: int) -> None:
    model = Model.from_callable(
        function,
        fingerprint="1",
        inputs=[TensorSpec("x", "float32", (None,))],
        outputs=[TensorSpec("y", "float32", (None,))],
    )
    row = np.arange(length, dtype="float32")
    (made,) = model.predict({"x": [row]})["y"]
    assert made.tolist() == function(row[None])[0].tolist()


def test_a_script_is_tried_too(tmp_path: Path) -> None:
    jit: Any = torch.jit
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        jit.trace(nn.Softmax(1).eval(), torch.ones(2, 8)).save(str(tmp_path / "m.pt"))
    spec = [TensorSpec("x", "float32", (None,))]
    outputs = [TensorSpec("y", "float32", (None,))]
    model = Model.from_torchscript(tmp_path / "m.pt", inputs=spec, outputs=outputs)
    assert model.bundle.length_rule.is_exact
    made = model.predict({"x": [[0.0, 0.0, 0.0], [0.0]]})["y"]
    assert [row.tolist() for row in made] == [pytest.approx([1 / 3] * 3), [1.0]]


def test_a_bundle_from_before_is_tried_when_it_is_loaded(tmp_path: Path) -> None:
    _, model = _made("mean")
    model.save(tmp_path / "m")
    manifest = tmp_path / "m/manifest.json"
    value = json.loads(manifest.read_text())
    del value["lengths"]
    manifest.write_text(json.dumps(value))
    loaded = Model.load(tmp_path / "m")
    assert loaded.bundle.length_rule.is_exact
    assert loaded.fingerprint == model.fingerprint
