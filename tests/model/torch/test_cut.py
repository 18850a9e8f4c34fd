"""Stages of a cut model: which there are, what reaches them, and that they give the model's bits."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from kvspark.errors import CutError
from kvspark.infer.model import Model
from tests.small_models import Encoder, Mlp, Skip, Towers, encoder_examples, seeded

MLP_INPUTS = {"x": torch.randn(3, 8)}


def test_a_cut_gives_a_stage_named_by_its_module() -> None:
    model = Model.from_torch(seeded(Mlp()), MLP_INPUTS, cuts=["trunk"])
    assert [stage.name for stage in model.stages] == ["trunk", "output"]
    trunk, last = model.stages
    assert trunk.inputs == ("x",)
    assert trunk.bytes_per_row == 16 * 4
    assert last.upstream == ("trunk",)
    assert last.inputs == ("x",)
    assert [spec.name for spec in model.outputs] == ["scores", "label"]


def test_the_last_stage_is_named_by_the_module_that_holds_it() -> None:
    class Labels(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk = torch.nn.Linear(8, 4)
            self.head = torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.Softmax(dim=-1))

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"probabilities": self.head(self.trunk(x))}

    model = Model.from_torch(seeded(Labels()), MLP_INPUTS, cuts=["trunk"])
    assert [stage.name for stage in model.stages] == ["trunk", "head"]


def test_each_tower_is_reached_by_its_own_input_only() -> None:
    model = Model.from_torch(
        seeded(Towers()),
        {"user": torch.randn(3, 8), "item": torch.randn(3, 6)},
        cuts=["item", "user"],
    )
    inputs = {stage.name: stage.inputs for stage in model.stages}
    assert inputs == {"user": ("user",), "item": ("item",), "output": ("user", "item")}


def test_a_skip_connection_crosses_the_cut_with_its_tensor() -> None:
    model = Model.from_torch(seeded(Skip()), MLP_INPUTS, cuts=["middle"])
    middle, last = model.stages
    assert [spec.shape for spec in middle.outputs] == [(8,), (8,)]
    assert last.upstream == ("middle",)
    assert [source.stage for source in last.sources] == ["middle", "middle"]


def test_a_mask_is_computed_again_and_not_stored() -> None:
    model = Model.from_torch(
        seeded(Encoder()),
        encoder_examples(),
        cuts=["layer"],
        variable_length=["input_ids", "attention_mask"],
    )
    layer, last = model.stages
    assert [spec.shape for spec in layer.outputs] == [(None, 16)]
    assert layer.bytes_per_row is None
    assert {source.tensor.name for source in last.sources} == {"t0", "attention_mask"}


def test_a_batch_size_does_not_pull_the_input_into_a_later_stage() -> None:
    class Flat(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk = torch.nn.Conv1d(1, 2, 3)
            self.head = torch.nn.Linear(12, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.trunk(x.unsqueeze(1)).reshape(x.size(0), -1))

    model = Model.from_torch(seeded(Flat()), MLP_INPUTS, cuts=["trunk"])
    assert [source.stage for source in model.stages[-1].sources] == ["trunk"]


@pytest.mark.parametrize(
    ("make", "cuts"),
    [
        (Mlp, ["trunk"]),
        (Mlp, ["trunk.0", "trunk"]),
        (Skip, ["middle"]),
        (Skip, ["first", "middle"]),
    ],
    ids=["one", "two", "skip", "skip-between-cuts"],
)
def test_cut_models_give_the_bits_of_the_whole_one(
    make: Callable[[], torch.nn.Module], cuts: list[str]
) -> None:
    module = seeded(make())
    rows = torch.randn(50, 8)
    whole = Model.from_torch(module, MLP_INPUTS, cuts=None).predict({"x": rows})
    parts = Model.from_torch(module, MLP_INPUTS, cuts=cuts).predict({"x": rows})
    assert {k: v.tobytes() for k, v in parts.items()} == {k: v.tobytes() for k, v in whole.items()}


def test_an_unknown_cut_names_the_nearest_module() -> None:
    with pytest.raises(CutError, match=r"'trunc' is no module .* did you mean 'trunk'"):
        Model.from_torch(seeded(Mlp()), MLP_INPUTS, cuts=["trunc"])


def test_dead_modules_are_in_no_stage() -> None:
    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used = torch.nn.Linear(8, 4)
            self.pooler = torch.nn.Linear(4, 4096)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden: torch.Tensor = self.used(x)
            self.pooler(hidden)
            return hidden

    model = Model.from_torch(seeded(Pooled()), MLP_INPUTS)
    assert sum(file["size_bytes"] for file in model.bundle.files.values()) < 4096
    with pytest.raises(CutError, match="nothing that the model returns needs"):
        Model.from_torch(seeded(Pooled()), MLP_INPUTS, cuts=["pooler"])
