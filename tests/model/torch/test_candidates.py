"""Cuts that are found by themselves: towers, and the trunk before a head."""

from __future__ import annotations

import pytest
import torch

from kvspark.infer.model import Model
from kvspark.model.bundle.describe import describe, explain_miss
from kvspark.model.torch.candidates import find_candidates
from kvspark.model.torch.export import export_module
from kvspark.spec import MicroBatch
from tests.small_models import Encoder, Mlp, Skip, Towers, encoder_examples, seeded

TOWER_INPUTS = {"user": torch.zeros(3, 8), "item": torch.zeros(3, 6)}
INPUTS = {"x": torch.zeros(3, 8)}
VARIABLE = ["input_ids", "attention_mask"]


def test_each_tower_becomes_a_stage() -> None:
    model = Model.from_torch(seeded(Towers()), TOWER_INPUTS)
    assert {s.name: s.inputs for s in model.stages[:-1]} == {"user": ("user",), "item": ("item",)}


def test_the_trunk_before_a_head_becomes_a_stage() -> None:
    assert [s.name for s in Model.from_torch(seeded(Mlp()), INPUTS).stages] == ["trunk", "output"]


def test_a_mean_in_nobodys_module_is_found_at_the_border_of_the_next_one() -> None:
    model = Model.from_torch(seeded(Encoder()), encoder_examples(), variable_length=VARIABLE)
    assert model.stages[0].name == "head@input"
    assert model.stages[0].bytes_per_row == 64


def test_a_skip_connection_is_cut_where_one_tensor_crosses() -> None:
    model = Model.from_torch(seeded(Skip()), INPUTS)
    assert [s.name for s in model.stages] == ["last@input", "output"]
    assert model.stages[0].bytes_per_row == 32


def test_a_model_without_a_head_stays_whole() -> None:
    module = seeded(torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Tanh()))
    assert len(Model.from_torch(module, {"input": torch.zeros(3, 8)}).stages) == 1


def test_results_that_are_too_large_to_fetch_are_not_cut_out() -> None:
    class Wide(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.grow = torch.nn.Conv2d(1, 80, 3, padding=1)
            self.head = torch.nn.Conv2d(80, 1, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.grow(x))

    assert len(Model.from_torch(seeded(Wide()), {"x": torch.zeros(2, 1, 64, 64)}).stages) == 1


def test_candidates_know_their_inputs_bytes_and_work() -> None:
    exported = export_module(seeded(Towers()), TOWER_INPUTS, [])
    found = {c.path: c for c in find_candidates(exported, TOWER_INPUTS)}
    user = found["user"]
    assert (user.inputs, user.bytes_per_row, user.tensors) == (("user",), 64, 1)
    assert user.operations == 2 * 8 * 16
    assert found["item"].operations == 2 * 6 * 16


@pytest.mark.parametrize("module", [Mlp(), Skip()], ids=["mlp", "skip"])
def test_every_candidate_gives_the_bits_of_the_whole_model(module: torch.nn.Module) -> None:
    exported = export_module(seeded(module), INPUTS, [])
    rows = {"x": torch.randn(40, 8, generator=torch.Generator().manual_seed(2))}
    whole = Model.from_torch(module, INPUTS, cuts=None).predict(rows)
    candidates = find_candidates(exported, INPUTS)
    assert len(candidates) >= 2
    for candidate in candidates:
        parts = Model.from_torch(module, INPUTS, cuts=[candidate.path]).predict(rows)
        assert {k: v.tobytes() for k, v in parts.items()} == {
            k: v.tobytes() for k, v in whole.items()
        }


def test_a_description_shows_every_stage_and_edge() -> None:
    described = describe(Model.from_torch(seeded(Towers()), TOWER_INPUTS).bundle)
    text = str(described)
    assert [line.split()[0] for line in text.splitlines()[2:]] == ["user", "item", "output"]
    assert 'n_user["user<br/>64 a row"]' in described.mermaid()
    assert '"item" -> "output";' in described.dot()
    assert "0.0 MB" not in text
    assert " kB" in text


def test_a_miss_is_explained_by_the_first_difference() -> None:
    module = seeded(Mlp())
    before = Model.from_torch(module, INPUTS).bundle
    with torch.no_grad():
        module.get_parameter("head.weight").add_(1.0)
    after = Model.from_torch(module, INPUTS).bundle
    first, second = explain_miss(before, after).splitlines()
    assert first.startswith("trunk: shared, fingerprint")
    assert second == "output: differs in weights or buffers"
    other = after.with_micro_batch(MicroBatch(rows=64))
    assert "trunk: differs in micro-batch" in explain_miss(after, other)
    assert "trunk: shared" in explain_miss(after, after)
