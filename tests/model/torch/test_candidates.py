"""Cuts that are found by themselves: towers, and the trunk before a head."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn
from transformers import ElectraConfig, ElectraForSequenceClassification

from kvspark.infer.model import Model
from kvspark.model.bundle.describe import describe, explain_miss
from kvspark.model.torch.candidates import find_candidates
from kvspark.model.torch.export import export_module
from kvspark.model.torch.work import works_of
from kvspark.spec import MicroBatch
from tests.small_models import Encoder, Mlp, Skip, Towers, encoder_examples, seeded

VARIABLE = ["input_ids", "attention_mask"]
TOWER_INPUTS = {"user": torch.zeros(3, 8), "item": torch.zeros(3, 6)}
INPUTS = {"x": torch.zeros(3, 8)}
WIDE = {"x": torch.zeros(3, 512)}
PAIRS = {"user": torch.zeros(3, 32), "item": torch.zeros(3, 32)}
SENTENCES = {name: torch.ones(2, 16, dtype=torch.int64) for name in VARIABLE}


def layers(*widths: int) -> nn.Sequential:
    """Linear layers, a ReLU between two of them."""
    made: list[nn.Module] = []
    for before, width in pairwise(widths):
        made += [nn.Linear(before, width), nn.ReLU()]
    return nn.Sequential(*made[:-1])


class Deep(nn.Module):
    """A trunk of half a million operations, and a head."""

    def __init__(self, width: int = 512) -> None:
        super().__init__()
        self.trunk = layers(8, width, width, 16)
        self.head = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.trunk(x))


class Narrow(nn.Module):
    """Most of the work before 16 numbers, a little more before 512."""

    def __init__(self) -> None:
        super().__init__()
        self.first = layers(512, 1024, 16)
        self.second = nn.Linear(16, 512)
        self.head = nn.Linear(512, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.second(self.first(x)))


class Late(nn.Module):
    """Little more than half of the work before 16 numbers, the rest before 512."""

    def __init__(self) -> None:
        super().__init__()
        self.first = layers(512, 1024, 16)
        self.second = layers(16, 800, 512)
        self.head = nn.Linear(512, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.second(self.first(x)))


class Pairs(nn.Module):
    """Two towers of 49,000 operations, and what joins them."""

    def __init__(self, head: str) -> None:
        super().__init__()
        self.user = layers(32, 256, 64)
        self.item = layers(32, 256, 64)
        self.kind = head
        widths = {"layers": [16], "wide layers": [512], "much": [512, 128, 16]}
        if head in widths:
            self.head = layers(128, *widths[head], 1)

    def forward(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        left, right = self.user(user), self.item(item)
        if self.kind == "product":
            return (left * right).sum(1)
        if self.kind == "cosine":
            return nn.functional.cosine_similarity(left, right)
        return self.head(torch.cat([left, right], 1))[:, 0]


class Nested(nn.Module):
    """A tower of two inputs, one of which has a tower of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = layers(8, 64, 32)
        self.user = layers(40, 64, 16)
        self.item = layers(8, 64, 16)

    def forward(self, seen: torch.Tensor, age: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        user = self.user(torch.cat([self.seen(seen), age], 1))
        return (user * self.item(item)).sum(1)


class Electra(nn.Module):
    """A classifier of sentences of 16 tokens."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        config = ElectraConfig(
            vocab_size=50,
            embedding_size=32,
            hidden_size=64,
            num_hidden_layers=layers,
            num_attention_heads=2,
            intermediate_size=256,
        )
        self.net = ElectraForSequenceClassification(config)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.net(input_ids=input_ids, attention_mask=attention_mask).logits


def test_each_tower_becomes_a_stage() -> None:
    model = Model.from_torch(seeded(Towers()), TOWER_INPUTS)
    assert {s.name: s.inputs for s in model.stages[:-1]} == {"user": ("user",), "item": ("item",)}


def test_the_trunk_before_a_head_becomes_a_stage() -> None:
    assert [s.name for s in Model.from_torch(seeded(Deep()), INPUTS).stages] == ["trunk", "head"]


def test_a_trunk_that_takes_less_than_its_entries_is_no_stage() -> None:
    assert [s.name for s in Model.from_torch(seeded(Mlp()), INPUTS).stages] == ["output"]
    assert [s.name for s in Model.from_torch(seeded(Deep(64)), INPUTS).stages] == ["output"]


def test_of_two_places_that_save_about_the_same_the_smaller_one_is_taken() -> None:
    assert [s.bytes_per_row for s in Model.from_torch(seeded(Narrow()), WIDE).stages] == [64, 8]


def test_a_place_that_saves_much_more_is_taken_though_more_bytes_cross_there() -> None:
    assert [s.bytes_per_row for s in Model.from_torch(seeded(Late()), WIDE).stages] == [2048, 8]


@pytest.mark.parametrize("head", ["layers", "product", "cosine", "wide layers"])
def test_little_work_behind_joined_towers_is_one_stage(head: str) -> None:
    model = Model.from_torch(seeded(Pairs(head)), PAIRS)
    assert [(s.name, s.inputs) for s in model.stages] == [
        ("user", ("user",)),
        ("item", ("item",)),
        ("output", ("user", "item")),
    ]


def test_much_work_behind_joined_towers_is_a_stage_before_its_head() -> None:
    model = Model.from_torch(seeded(Pairs("much")), PAIRS)
    assert [s.name for s in model.stages] == ["user", "item", "head.4", "output"]


@pytest.mark.parametrize("layers", [1, 3])
def test_the_beginning_of_a_trunk_is_no_tower(layers: int) -> None:
    model = Model.from_torch(seeded(Electra(layers)), SENTENCES)
    assert [(s.name, s.inputs) for s in model.stages] == [
        ("net.classifier.dense", ("input_ids", "attention_mask")),
        ("net", ("input_ids", "attention_mask")),
    ]


def test_a_tower_within_a_tower_is_a_stage_too() -> None:
    given = {name: torch.zeros(3, 8) for name in ("seen", "age", "item")}
    model = Model.from_torch(seeded(Nested()), given)
    assert [(s.name, s.inputs, s.upstream) for s in model.stages] == [
        ("seen", ("seen",), ()),
        ("user", ("seen", "age"), ("seen",)),
        ("item", ("item",), ()),
        ("output", ("seen", "age", "item"), ("user", "item")),
    ]


@pytest.mark.parametrize("length", [2, 40])
def test_the_stages_do_not_hang_on_the_length_of_an_example(length: int) -> None:
    ids = torch.ones(2, length, dtype=torch.int64)
    examples = {"input_ids": ids, "attention_mask": ids}
    model = Model.from_torch(seeded(Encoder()), examples, variable_length=VARIABLE)
    assert [s.name for s in model.stages] == ["head@input", "head"]


def test_a_mean_in_nobodys_module_is_found_at_the_border_of_the_next_one() -> None:
    model = Model.from_torch(seeded(Encoder()), encoder_examples(), variable_length=VARIABLE)
    assert model.stages[0].name == "head@input"
    assert model.stages[0].bytes_per_row == 64


def test_a_skip_connection_is_cut_where_one_tensor_crosses() -> None:
    model = Model.from_torch(seeded(Skip(512)), WIDE)
    assert [s.name for s in model.stages] == ["last@input", "output"]
    assert model.stages[0].bytes_per_row == 2048


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
    found = {c.path: c for c in find_candidates(exported, works_of(exported))}
    user = found["user"]
    assert (user.inputs, user.bytes_per_row, user.tensors) == (("user",), 64, 1)
    assert user.operations == 2 * 8 * 16
    assert found["item"].operations == 2 * 6 * 16


@pytest.mark.parametrize("module", [Mlp(), Skip()], ids=["mlp", "skip"])
def test_every_candidate_gives_the_bits_of_the_whole_model(module: torch.nn.Module) -> None:
    exported = export_module(seeded(module), INPUTS, [])
    rows = {"x": torch.randn(40, 8, generator=torch.Generator().manual_seed(2))}
    whole = Model.from_torch(module, INPUTS, cuts=None).predict(rows)
    candidates = find_candidates(exported, works_of(exported))
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
    before = Model.from_torch(module, INPUTS, cuts=["trunk"]).bundle
    with torch.no_grad():
        module.get_parameter("head.weight").add_(1.0)
    after = Model.from_torch(module, INPUTS, cuts=["trunk"]).bundle
    first, second = explain_miss(before, after).splitlines()
    assert first.startswith("trunk: shared, fingerprint")
    assert second == "output: differs in weights or buffers"
    other = after.with_micro_batch(MicroBatch(rows=64))
    assert "trunk: differs in micro-batch" in explain_miss(after, other)
    assert "trunk: shared" in explain_miss(after, after)
