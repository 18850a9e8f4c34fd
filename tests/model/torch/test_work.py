"""What a row costs a program, counted; and the shapes in which its stage is called for that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kvspark.infer.model import Model
from kvspark.infer.resolve.compiled_plan import compiled_plan
from kvspark.model.bundle.bundle import Bundle
from kvspark.model.stage.stage import Stage
from kvspark.model.torch.export import export_module
from kvspark.model.torch.work import Operators, works_of
from kvspark.plan.plan import Plan
from kvspark.spec import MicroBatch
from tests.small_models import Encoder, Mlp, Towers, encoder_examples, seeded

X = {"x": torch.zeros(3, 8)}


def rows_of(model: Model) -> dict[str, int]:
    """The rows of a call, by stage."""
    bundle = model.bundle
    return {s.name: bundle.shapes_of(s).micro_batch.rows for s in bundle.stages if s.is_batched}


class Wide(torch.nn.Module):
    """A row of 64 KiB, read and written once."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2


class Deep(torch.nn.Module):
    """A layer of 16 million operations a row."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(2048, 2048), torch.nn.Linear(2048, 2048))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def test_each_stage_has_the_rows_that_its_own_work_asks_for() -> None:
    towers = Model.from_torch(
        seeded(Towers()), {"user": torch.zeros(3, 8), "item": torch.zeros(3, 6)}
    )
    assert set(rows_of(towers).values()) == {1024}
    assert rows_of(Model.from_torch(Wide().eval(), {"x": torch.zeros(3, 16384)})) == {"output": 32}
    deep = Model.from_torch(seeded(Deep()), {"x": torch.zeros(3, 2048)}, cuts=())
    assert rows_of(deep) == {"layers": 32}


def test_a_stage_whose_rows_vary_in_length_has_32_and_its_head_more() -> None:
    variable = ["input_ids", "attention_mask"]
    model = Model.from_torch(seeded(Encoder()), encoder_examples(), variable_length=variable)
    assert rows_of(model) == {"head@input": 32, "head": 1024}


@pytest.mark.parametrize("rows", [1, 32, 64])
def test_a_micro_batch_that_is_given_holds_for_every_stage(rows: int) -> None:
    pinned = MicroBatch(rows=rows)
    free = Model.from_torch(seeded(Mlp()), X, cuts=["trunk"])
    given = Model.from_torch(seeded(Mlp()), X, cuts=["trunk"], micro_batch=pinned)
    planned = compiled_plan(free.bundle, Plan(micro_batch=pinned)).bundle
    assert set(rows_of(given).values()) == {rows}
    assert planned.fingerprint == free.with_micro_batch(pinned).fingerprint == given.fingerprint
    assert given.fingerprint != free.fingerprint


def test_a_miss_after_an_upgrade_is_explained_by_the_rows_of_a_call() -> None:
    free = Model.from_torch(seeded(Mlp()), X, cuts=["trunk"])
    old = free.with_micro_batch(MicroBatch())
    told = free.explain_miss(old)
    assert (
        "trunk: differs in micro-batch (MicroBatch(rows=1024, tokens=2048) / MicroBatch(rows=32"
        in told
    )


def test_a_bundle_without_rows_is_called_as_the_version_that_wrote_it_called_it(
    tmp_path: Path,
) -> None:
    model = Model.from_torch(seeded(Mlp()), X, cuts=["trunk"], micro_batch=MicroBatch())
    model.save(tmp_path / "old")
    assert b'"rows": 1024' not in (tmp_path / "old" / "manifest.json").read_bytes()
    assert set(rows_of(Model(Bundle.load(tmp_path / "old"))).values()) == {32}


def test_the_rows_of_a_call_are_saved_with_the_model(tmp_path: Path) -> None:
    model = Model.from_torch(seeded(Mlp()), X, cuts=["trunk"])
    model.save(tmp_path / "new")
    again = Model.load(tmp_path / "new")
    assert rows_of(again) == rows_of(model) == {"trunk": 1024, "output": 1024}
    assert again.fingerprint == model.fingerprint


def test_a_row_has_the_same_bits_at_every_place_of_a_large_call() -> None:
    model = Model.from_torch(seeded(Mlp()), X, cuts=["trunk"])
    rows = np.random.default_rng(5).standard_normal((1500, 8)).astype("float32")
    turned = np.random.default_rng(6).permutation(1500)
    straight = model.predict({"x": rows})["scores"].tolist()
    shuffled = model.predict({"x": rows[turned]})["scores"].tolist()
    some = model.predict({"x": rows[:3]})["scores"].tolist()
    assert shuffled == [straight[row] for row in turned]
    assert some == straight[:3]


def test_two_models_of_one_trunk_share_it_though_their_heads_have_other_shapes() -> None:
    class Headed(torch.nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.trunk = seeded(Mlp()).trunk
            self.head = torch.nn.Linear(16, width)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.trunk(x))

    def trunk(width: int) -> Stage:
        return Model.from_torch(Headed(width).eval(), X, cuts=["trunk"]).stages[0]

    assert trunk(3).fingerprint == trunk(20_000).fingerprint


def test_the_others_are_counted_where_one_operator_cannot_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = seeded(Mlp())
    exported = export_module(module, X, [])
    counted = {node.name: found for node, found in works_of(exported).items()}
    count = Operators.__torch_dispatch__

    def fails(self: Operators, func: Any, *given: Any) -> object:
        if func is torch.ops.aten.gelu.default:
            raise AssertionError("a formula of torch that does not know this shape")
        return count(self, func, *given)

    monkeypatch.setattr(Operators, "__torch_dispatch__", fails)
    found = {node.name: found for node, found in works_of(exported).items()}
    assert found == {**counted, "gelu": None}
    assert counted["linear"] is not None
    assert counted["linear"].operations == 2 * 8 * 16
    cut = Model.from_torch(module, X, cuts=["trunk.0", "trunk"])
    assert rows_of(cut) == {"trunk.0": 1024, "trunk": 32, "output": 1024}


def test_an_operator_that_fails_without_values_is_no_reason_to_refuse_a_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: object, **__: object) -> object:
        raise AssertionError("a formula of torch that does not know this shape")

    monkeypatch.setattr(Operators, "__torch_dispatch__", fails)
    assert rows_of(Model.from_torch(seeded(Mlp()), X, cuts=())) == {"output": 32}
