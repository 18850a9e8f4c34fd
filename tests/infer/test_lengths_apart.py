"""Inputs of one row that have lengths of their own: a source and a target, a question and a document."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper
from torch import nn

from kvspark.cache.cache import Cache
from kvspark.infer.model import Model
from kvspark.spec import MicroBatch
from tests.onnx_models import constant, floats, write
from tests.small_models import seeded

WIDTH = 4
LENGTHS = [
    (5, 9),
    (9, 5),
    (9, 5),
    (1, 7),
    (7, 1),
    (4, 4),
    (3, 40),
    (70, 2),
    (33, 100),
    (2, 3),
    (6, 6),
]


class Crossed(nn.Module):
    """Attention of a target over a source; a vector for each token of the target, and one for the row."""

    def __init__(self) -> None:
        super().__init__()
        self.key, self.query = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> dict[str, torch.Tensor]:
        weights = (self.query(target) @ self.key(source).transpose(1, 2)).softmax(-1)
        made = weights @ source
        return {"tokens": made, "pooled": made.mean(1)}


class Masked(nn.Module):
    """As `Crossed`, the source with a mask of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.part = nn.MultiheadAttention(WIDTH, 2, batch_first=True)

    def forward(
        self, source: torch.Tensor, source_mask: torch.Tensor, target: torch.Tensor
    ) -> torch.Tensor:
        made, _ = self.part(target, source, source, key_padding_mask=source_mask == 0)
        return made


class Positions(nn.Module):
    """A question of at most 8 tokens, and a document of at most 60."""

    def __init__(self) -> None:
        super().__init__()
        self.short, self.long = nn.Embedding(8, WIDTH), nn.Embedding(60, WIDTH)

    def forward(self, question: torch.Tensor, document: torch.Tensor) -> torch.Tensor:
        one = question + self.short(torch.arange(question.shape[1]))
        other = document + self.long(torch.arange(document.shape[1]))
        return (one.mean(1) * other.amax(1)).sum(-1)


class Tower(nn.Module):
    """Tokens with positions, of at most `most`."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.places, self.part = nn.Embedding(most, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.part(x + self.places(torch.arange(x.shape[1]))).amax(1)
        return made


class Towers(nn.Module):
    """As `Positions`, each input in a stage of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.short, self.long = Tower(8), Tower(60)

    def forward(self, question: torch.Tensor, document: torch.Tensor) -> torch.Tensor:
        return (self.short(question) * self.long(document)).sum(-1)


class Bound(nn.Module):
    """Two inputs that must have one length."""

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return (x * mask.unsqueeze(-1)).sum(1)


def value(name: str, length: int, chance: np.random.Generator) -> Any:
    if "mask" in name:
        return np.ones(length, dtype=np.int64)
    return chance.standard_normal((length, WIDTH)).astype("float32")


def rows_of(names: Sequence[str], lengths: Sequence[tuple[int, int]]) -> dict[str, list[Any]]:
    """Rows whose first inputs, masks among them, have the first length, and whose last input has the second."""
    chance = np.random.default_rng(7)
    return {
        name: [value(name, pair[name == names[-1]], chance) for pair in lengths] for name in names
    }


def made_of(module: nn.Module, names: Sequence[str], **options: Any) -> Model:
    examples = {n: torch.from_numpy(np.stack(r)) for n, r in rows_of(names, [(6, 6)] * 2).items()}
    options = {"cuts": None, **options}
    return Model.from_torch(seeded(module), examples, variable_length=list(names), **options)


def by_module(module: nn.Module, rows: dict[str, list[Any]], place: int) -> dict[str, Any]:
    with torch.no_grad():
        made = module(**{name: torch.from_numpy(r[place][None]) for name, r in rows.items()})
    return {
        name: one.numpy()[0]
        for name, one in (made if isinstance(made, dict) else {"output": made}).items()
    }


MODULES: dict[str, tuple[Callable[[], nn.Module], tuple[str, ...]]] = {
    "crossed": (Crossed, ("source", "target")),
    "masked": (Masked, ("source", "source_mask", "target")),
}


@pytest.mark.parametrize("kind", MODULES)
@pytest.mark.parametrize("shape", [MicroBatch(), MicroBatch(rows=1)])
def test_each_row_is_the_modules_own_and_the_same_bits_from_the_cache(
    kind: str, shape: MicroBatch, tmp_path: Path
) -> None:
    make, names = MODULES[kind]
    module = seeded(make())
    made_of(make(), names, micro_batch=shape).save(tmp_path / "m")
    model = Model.load(tmp_path / "m")
    assert len(model.bundle.length_rule.groups) == 2
    assert "may differ in length" in str(model.describe())
    rows = rows_of(names, LENGTHS)
    cache = Cache.connect("memory://", namespace="apart")
    made = model.predict(rows, cache=cache)
    for place in range(len(LENGTHS)):
        for name, right in by_module(module, rows, place).items():
            assert made[name][place].shape == right.shape
            np.testing.assert_allclose(made[name][place], right, rtol=1e-4, atol=1e-6)
    some = [8, 2, 1, 0, 5]
    for again in (model.predict(rows, cache=cache), model.predict(rows)):
        for name, column in made.items():
            assert [row.tobytes() for row in again[name]] == [row.tobytes() for row in column]
    few = model.predict({name: [column[i] for i in some] for name, column in rows.items()})
    for name, column in few.items():
        assert [row.tobytes() for row in column] == [made[name][i].tobytes() for i in some]


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=8))
def test_rows_of_any_two_lengths_are_the_modules_own_or_bad(lengths: list[tuple[int, int]]) -> None:
    names, module = MODULES["crossed"][1], seeded(Crossed())
    rows = rows_of(names, lengths)
    made = CROSSED.predict(rows, on_bad_row="quarantine")
    for place, pair in enumerate(lengths):
        why = made["_kvspark_error"][place]
        if why is not None:
            assert min(pair) == 0, why
            continue
        for name, right in by_module(module, rows, place).items():
            got = np.ma.getdata(made[name][place])
            np.testing.assert_allclose(got, right, rtol=1e-4, atol=1e-6)


CROSSED = made_of(Crossed(), ("source", "target"))


@pytest.mark.parametrize(
    ("make", "cuts"), [(Positions, None), (Towers, None), (Towers, ["short", "long"])]
)
def test_each_length_has_the_limit_of_its_own_input(make: Any, cuts: Any) -> None:
    model = made_of(make(), ("question", "document"), cuts=cuts)
    assert len(model.stages) == (1 if cuts is None else 3)
    rows = rows_of(("question", "document"), [(3, 60), (8, 50), (9, 50), (3, 61), (8, 8)])
    made = model.predict(rows, on_bad_row="quarantine")
    bad = [why is not None for why in made["_kvspark_error"]]
    assert bad == [False, False, True, True, False]
    for place in (0, 1, 4):
        right = by_module(seeded(make()), rows, place)["output"]
        np.testing.assert_allclose(made["output"][place], right, rtol=1e-5)


def test_inputs_that_belong_together_must_agree() -> None:
    for model, names in (
        (made_of(Bound(), ("x", "mask")), ("x", "mask")),
        (made_of(Masked(), MODULES["masked"][1]), MODULES["masked"][1]),
    ):
        rows = rows_of(names, [(5, 5), (5, 5)])
        rows[names[1]][1] = rows[names[1]][1][:3]
        made = model.predict(rows, on_bad_row="quarantine")
        assert made["_kvspark_error"][0] is None
        assert "inputs of varying length must agree" in made["_kvspark_error"][1].message


def test_rows_whose_lengths_agree_keep_their_fingerprint() -> None:
    rule = CROSSED.bundle.length_rule
    plain = CROSSED.bundle.with_length_rule(type(rule)(rule.is_exact, rule.pads_empty))
    assert plain.fingerprint == CROSSED.fingerprint


def onnx_file(path: Path, *, second: str, nodes: list[Any], output: Any) -> Path:
    inputs = [floats("a", "n", "left", WIDTH), floats("b", "n", second, WIDTH)]
    return write(path, nodes, inputs, [output], [constant("first", [1])])


def test_a_file_with_two_free_lengths_takes_both(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ReduceMean", ["a", "first"], ["p"], keepdims=0),
        helper.make_node("ReduceMax", ["b", "first"], ["q"], keepdims=0),
        helper.make_node("Sub", ["p", "q"], ["y"]),
    ]
    path = onnx_file(tmp_path / "m.onnx", second="right", nodes=nodes, output=floats("y", "n", 4))
    model = Model.from_onnx(path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    rows = rows_of(("a", "b"), LENGTHS)
    made = model.predict(rows)["y"]
    for place, got in enumerate(made):
        feeds = {name: column[place][None] for name, column in rows.items()}
        np.testing.assert_allclose(got, session.run(None, feeds)[0][0], rtol=1e-5, atol=1e-6)


def test_a_file_whose_names_differ_and_lengths_may_not_is_told_so(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Mul", ["a", "b"], ["p"]),
        helper.make_node("ReduceSum", ["p", "first"], ["y"], keepdims=0),
    ]
    path = onnx_file(tmp_path / "m.onnx", second="right", nodes=nodes, output=floats("y", "n", 4))
    model = Model.from_onnx(path)
    assert not model.bundle.length_rule.groups
    made = model.predict(rows_of(("a", "b"), [(5, 9), (5, 5)]), on_bad_row="quarantine")
    assert "must agree" in made["_kvspark_error"][0].message
