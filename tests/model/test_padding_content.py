"""What stands in the padding reaches no result, for models that hide what they do with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from kvspark import Model
from kvspark.errors import ExportError

LENGTHS = (1, 2, 3, 6, 9, 17)
FLOATS, IDS = torch.rand(2, 6), torch.arange(12).reshape(2, 6)
MOST_APART = 1e-5
_CHANCE = np.random.default_rng(3)


class Of(nn.Module):
    """A function of x (batch, length)."""

    def __init__(self, run: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.run = run

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.run(x)


class OfAmounts(Of):
    """The same of an input whose name is not that of a mask, though it has the word in it."""

    def forward(self, masked_amounts: torch.Tensor) -> torch.Tensor:
        return self.run(masked_amounts)


class Scores(nn.Module):
    """The best score of the ids: padding has the least one but for the last fifth of the table."""

    def __init__(self) -> None:
        super().__init__()
        scores = torch.linspace(0, 9, 5000)[:, None].clone()
        scores[4100:] = -3
        self.table = nn.Embedding.from_pretrained(scores)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.table(x)[..., 0].amax(1)


class Weighted(nn.Module):
    """A mean with weights, which are a mask of another name."""

    def forward(self, x: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        return (x * valid).sum(1) / valid.sum(1).clamp(min=1)


def _between(low: float, high: float) -> Callable[[int], Any]:
    return lambda length: _CHANCE.uniform(low, high, length).astype("float32")


def _whole(low: int, high: int) -> Callable[[int], Any]:
    return lambda length: _CHANCE.integers(low, high, length)


HIDING: dict[str, tuple[nn.Module, torch.Tensor, Callable[[int], Any]]] = {
    "the greatest of whole numbers": (Of(lambda x: x.amax(1)), IDS, _whole(-50, 0)),
    "a flag": (Of(lambda x: x.mean(1) > 1000), FLOATS, _between(900, 1500)),
    "a threshold": (Of(lambda x: torch.relu(x.mean(1) - 1000)), FLOATS, _between(900, 1500)),
    "a class": (
        Of(lambda x: torch.stack([x.mean(1), x.mean(1) * 0 + 5], 1).argmax(1)),
        FLOATS,
        _between(4, 8),
    ),
    "a peak": (Of(lambda x: -(x.abs() - 100).abs().amin(1)), FLOATS, _between(900, 1500)),
    "a number beside a large one": (
        Of(lambda x: torch.stack([x.sum(1) * 1e6, x.mean(1)], 1)),
        FLOATS,
        _between(0, 3),
    ),
    "a rare number": (
        Of(lambda x: torch.where((x > 500_000).any(1), x.double().mean(1), x.double().sum(1))),
        IDS,
        _whole(500_001, 900_000),
    ),
    "not a mask by its name": (OfAmounts(lambda x: x.amax(1)), FLOATS, _between(-3, -1)),
    "a part of a table": (Scores(), IDS, _whole(4100, 5000)),
}


@pytest.mark.parametrize("case", HIDING)
def test_padding_that_no_tried_row_shows_is_found(case: str) -> None:
    module, example, row = HIDING[case]
    name = "masked_amounts" if isinstance(module, OfAmounts) else "x"
    model = Model.from_torch(module.eval(), {name: example}, variable_length=[name])
    rows = [row(length) for length in LENGTHS]
    made = model.predict({name: rows})["output"]
    right = [module(torch.from_numpy(one)[None])[0].numpy() for one in rows]
    assert np.allclose(np.stack(made), np.stack(right), rtol=MOST_APART, atol=0)
    assert model.bundle.length_rule.is_exact


def test_a_mask_of_another_name_keeps_rows_padded() -> None:
    examples = {"x": FLOATS, "valid": torch.ones(2, 6)}
    model = Model.from_torch(Weighted().eval(), examples, variable_length=["x", "valid"])
    assert not model.bundle.length_rule.is_exact
    made = model.predict({"x": [[1.0, 2.0, 6.0], [7.0]], "valid": [[1.0] * 3, [1.0]]})["output"]
    assert np.allclose(made, [3.0, 7.0])


def test_ids_of_which_one_stands_for_padding_keep_rows_padded() -> None:
    class Masked(Scores):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (self.table(x)[..., 0] * (x != 0)).sum(1)

    model = Model.from_torch(Masked().eval(), {"x": IDS}, variable_length=["x"])
    assert not model.bundle.length_rule.is_exact


def test_a_branch_on_a_great_length_is_refused() -> None:
    module = Of(lambda x: x.sum(1) * max(1, x.shape[1] / 300)).eval()
    with pytest.raises(ExportError, match="a branch on a length say"):
        Model.from_torch(module, {"x": FLOATS}, variable_length=["x"])


class Windows(nn.Module):
    """Windows of three ids that end in one that is not padding: no row of length 1 or 2."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 4, padding_idx=0)
        self.windows = nn.Conv1d(4, 3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.windows(self.embed(x).transpose(1, 2))
        return (made * (x[:, 2:] != 0).unsqueeze(1)).sum(2)


def test_ids_that_cannot_be_tried_alone_are_not_padded() -> None:
    torch.manual_seed(3)
    model = Model.from_torch(Windows().eval(), {"x": IDS}, variable_length=["x"])
    assert (model.bundle.length_rule.is_exact, model.bundle.length_rule.shortest) == (True, 3)
    assert "rows of one id" in model.bundle.length_rule.reason
