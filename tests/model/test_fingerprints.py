"""Fingerprints: equal where results are equal, different for every perturbation that could differ."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from kvspark.infer.model import Model
from kvspark.spec import MicroBatch
from tests.faults.matrix import covers
from tests.small_models import Encoder, Mlp, Towers, encoder_examples, seeded

GOLDEN = Path(__file__).parent / "golden" / "mlp.json"
INPUTS = {"x": torch.zeros(3, 8)}


def mlp(**changes: Any) -> Model:
    return Model.from_torch(seeded(Mlp()), INPUTS, cuts=["trunk"], **changes)


def test_a_retrained_head_reuses_the_trunk() -> None:
    module = seeded(Mlp())
    before = Model.from_torch(module, INPUTS, cuts=["trunk"])
    with torch.no_grad():
        module.get_parameter("head.weight").add_(1.0)
    after = Model.from_torch(module, INPUTS, cuts=["trunk"])
    assert before.stages[0].fingerprint == after.stages[0].fingerprint
    assert before.stages[1].fingerprint != after.stages[1].fingerprint


def test_a_trunk_that_is_frozen_keeps_its_fingerprint_and_its_bits() -> None:
    module = seeded(Encoder())
    variable = ["input_ids", "attention_mask"]
    examples = encoder_examples()
    before = Model.from_torch(module, examples, variable_length=variable)
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    after = Model.from_torch(module, examples, variable_length=variable)
    assert before.fingerprint == after.fingerprint


@covers("F45")
def test_one_ulp_in_one_weight_changes_every_stage_from_there_on() -> None:
    module = seeded(Mlp())
    before = Model.from_torch(module, INPUTS, cuts=["trunk"])
    with torch.no_grad():
        bias = module.get_parameter("trunk.0.bias")
        bias[3] = torch.nextafter(bias[3], torch.tensor(9.0))
    after = Model.from_torch(module, INPUTS, cuts=["trunk"])
    pairs = zip(before.stages, after.stages, strict=True)
    assert all(a.fingerprint != b.fingerprint for a, b in pairs)


def test_equal_state_dicts_with_other_heads_have_other_fingerprints() -> None:
    class Attention(torch.nn.Module):
        def __init__(self, heads: int) -> None:
            super().__init__()
            self.attention = torch.nn.MultiheadAttention(16, heads, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.attention(x, x, x, need_weights=False)[0]

    four, eight = seeded(Attention(4)), seeded(Attention(8))
    for name, tensor in four.state_dict().items():
        assert torch.equal(tensor, eight.state_dict()[name])
    inputs = {"x": torch.zeros(3, 5, 16)}
    assert Model.from_torch(four, inputs).fingerprint != Model.from_torch(eight, inputs).fingerprint


def test_a_buffer_outside_the_state_dict_counts() -> None:
    class Scaled(torch.nn.Module):
        def __init__(self, scale: float) -> None:
            super().__init__()
            self.scale: torch.Tensor
            self.register_buffer("scale", torch.tensor(scale), persistent=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.scale

    assert not Scaled(1.0).state_dict()
    one, two = (Model.from_torch(Scaled(scale).eval(), INPUTS) for scale in (1.0, 2.0))
    assert one.fingerprint != two.fingerprint


def test_a_constant_in_the_code_counts() -> None:
    modules = (torch.nn.Sequential(torch.nn.LeakyReLU(slope)).eval() for slope in (0.01, 0.02))
    one, two = (Model.from_torch(module, {"input": torch.zeros(3, 8)}) for module in modules)
    assert one.fingerprint != two.fingerprint


def test_dtype_and_micro_batch_count() -> None:
    double = Model.from_torch(
        seeded(Mlp()).double(), {"x": torch.zeros(3, 8).double()}, cuts=["trunk"]
    )
    other_shape = mlp(micro_batch=MicroBatch(rows=64))
    prints = {model.stages[0].fingerprint for model in (mlp(), double, other_shape)}
    assert len(prints) == 3
    assert mlp().with_micro_batch(MicroBatch(rows=64)).fingerprint == other_shape.fingerprint


def test_tokens_of_a_micro_batch_count_only_where_lengths_vary() -> None:
    other = MicroBatch(tokens=256)
    assert mlp(micro_batch=MicroBatch()).fingerprint == mlp(micro_batch=other).fingerprint
    variable = ["input_ids", "attention_mask"]
    one, two = (
        Model.from_torch(
            seeded(Encoder()), encoder_examples(), variable_length=variable, micro_batch=shape
        )
        for shape in (MicroBatch(), other)
    )
    assert one.fingerprint != two.fingerprint


def test_names_do_not_count() -> None:
    class Renamed(torch.nn.Module):
        def __init__(self, mlp: Mlp) -> None:
            super().__init__()
            self.inner = mlp

        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return self.inner(features)["scores"]

    module = seeded(Mlp())
    other = Model.from_torch(
        Renamed(module).eval(), {"features": INPUTS["x"]}, cuts=["inner.trunk"]
    )
    assert other.stages[0].fingerprint == mlp().stages[0].fingerprint


# torch.compile itself calls torch.jit functions that torch has deprecated.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_module_has_the_fingerprint_of_the_eager_one() -> None:
    module = seeded(Mlp())
    compiled: Any = torch.compile(module, backend="eager")
    assert any(name.startswith("_orig_mod.") for name, _ in compiled.named_parameters())
    assert Model.from_torch(compiled, INPUTS, cuts=["trunk"]).fingerprint == mlp().fingerprint


def test_equal_towers_in_swapped_roles_have_another_last_stage() -> None:
    class Pair(torch.nn.Module):
        def __init__(self, swapped: bool) -> None:
            super().__init__()
            self.swapped = swapped
            self.left = torch.nn.Linear(4, 4)
            self.right = torch.nn.Linear(4, 4)
            self.right.load_state_dict(self.left.state_dict())

        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            one, two = self.left(a), self.right(b)
            return two - one if self.swapped else one - two

    inputs = {"a": torch.zeros(3, 4), "b": torch.zeros(3, 4)}
    straight, swapped = (
        Model.from_torch(seeded(Pair(flag)), inputs, cuts=["left", "right"])
        for flag in (False, True)
    )
    assert straight.fingerprint != swapped.fingerprint


def test_two_models_share_the_trunk_they_have_in_common() -> None:
    inputs = {"user": torch.zeros(3, 8), "item": torch.zeros(3, 6)}
    one = Model.from_torch(seeded(Towers()), inputs, cuts=["user", "item"])
    module = seeded(Towers())
    with torch.no_grad():
        module.get_parameter("item.0.weight").add_(1.0)
    two = Model.from_torch(module, inputs, cuts=["user", "item"])
    prints = [{s.name: s.fingerprint for s in model.stages} for model in (one, two)]
    assert prints[0]["user"] == prints[1]["user"]
    assert prints[0]["item"] != prints[1]["item"]


def test_content_is_what_it_was_when_the_golden_file_was_written() -> None:
    golden = json.loads(GOLDEN.read_text())
    found = {stage.name: stage.content.hex() for stage in mlp().stages}
    assert found == golden["content"], (
        "if the canonical graph changed on purpose, raise FORMAT_VERSION"
    )
