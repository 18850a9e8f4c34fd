"""The law: predictions with the cache are predictions without it, bit for bit, for any pattern of hits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache as once
from itertools import count

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kvspark.cache.cache import Cache
from kvspark.infer.model import Model
from kvspark.infer.predict.predictor import Predictor
from kvspark.infer.resolve.compiled_plan import compiled_plan
from kvspark.plan.plan import Plan, StagePlan
from kvspark.spec import MicroBatch
from tests.faults.matrix import covers
from tests.small_models import Encoder, Mlp, Skip, Towers, encoder_examples, seeded

NAMES = count()
SHAPE = MicroBatch(rows=32, tokens=1024)


@once
def encoder(*, per_token: bool) -> Model:
    return Model.from_torch(
        seeded(Encoder(per_token=per_token)),
        encoder_examples(),
        cuts=["layer"],
        variable_length=["input_ids", "attention_mask"],
        micro_batch=SHAPE,
    )


@once
def towers() -> Model:
    inputs = {"user": torch.zeros(3, 8), "item": torch.zeros(3, 6)}
    return Model.from_torch(seeded(Towers()), inputs, cuts=["user", "item"], micro_batch=SHAPE)


@once
def plain(kind: type[torch.nn.Module], cut: str) -> Model:
    return Model.from_torch(seeded(kind()), {"x": torch.zeros(3, 8)}, cuts=[cut], micro_batch=SHAPE)


class Narrow(torch.nn.Module):
    """Rows of 5 floats: each place has another alignment, and a sigmoid of 5 fills no vector."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = torch.nn.Linear(5, 7)
        self.head = torch.nn.Linear(7, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.head(torch.nn.functional.silu(self.trunk(x))))


@once
def narrow() -> Model:
    return Model.from_torch(
        seeded(Narrow()), {"x": torch.zeros(3, 5)}, cuts=["trunk"], micro_batch=SHAPE
    )


def fresh_cache() -> Cache:
    return Cache.connect(f"memory://exactness-{next(NAMES)}", namespace="tests")


def token_rows(seeds: list[int]) -> dict[str, pa.Array]:
    """Rows of 1 to 40 tokens; equal seeds are equal rows."""
    ids = [
        np.random.default_rng(seed).integers(0, 50, size=1 + seed * 7 % 40).tolist()
        for seed in seeds
    ]
    return {
        "input_ids": pa.array(ids, pa.list_(pa.int64())),
        "attention_mask": pa.array([[1] * len(row) for row in ids], pa.list_(pa.int64())),
    }


def vector_rows(seeds: list[int], size: int = 8) -> pa.Array:
    rows = [np.random.default_rng(seed).normal(size=size).astype(np.float32) for seed in seeds]
    return pa.array([row.tolist() for row in rows], pa.list_(pa.float32()))


def pair_rows(seeds: list[int]) -> dict[str, pa.Array]:
    """Pairs of 5 users and some items, so that towers repeat more than pairs do."""
    return {
        "user": vector_rows([seed % 5 for seed in seeds]),
        "item": vector_rows([seed // 5 for seed in seeds], 6),
    }


CASES: dict[str, tuple[Callable[[], Model], Callable[[list[int]], dict[str, pa.Array]]]] = {
    "mlp": (lambda: plain(Mlp, "trunk"), lambda seeds: {"x": vector_rows(seeds)}),
    "narrow": (narrow, lambda seeds: {"x": vector_rows(seeds, 5)}),
    "skip": (lambda: plain(Skip, "middle"), lambda seeds: {"x": vector_rows(seeds)}),
    "towers": (towers, pair_rows),
    "encoder": (lambda: encoder(per_token=False), token_rows),
    "tokens": (lambda: encoder(per_token=True), token_rows),
}

seed_lists = st.lists(st.integers(0, 60), min_size=1, max_size=40)
hit_patterns = st.lists(st.tuples(seed_lists, st.integers(0, 7)), max_size=3)


def plan_of(model: Model, bits: int) -> Plan:
    """A plan that caches the stages whose bit is set."""
    stages = {stage.name: StagePlan(bool(bits >> i & 1)) for i, stage in enumerate(model.stages)}
    return Plan(stages, max_pending_rows=16)


@pytest.mark.parametrize("case", CASES)
@settings(deadline=None)
@given(
    seeds=seed_lists,
    warmed=hit_patterns,
    bits=st.integers(0, 7),
    size=st.integers(1, 20),
    memo_bytes=st.sampled_from([0, 1_000, 1 << 20]),
)
def test_any_pattern_of_hits_gives_the_bits_of_the_run_without_a_cache(
    case: str,
    seeds: list[int],
    warmed: list[tuple[list[int], int]],
    bits: int,
    size: int,
    memo_bytes: int,
) -> None:
    make, rows_of = CASES[case]
    model = make()
    cache = fresh_cache()
    for known, known_bits in warmed:
        Predictor(compiled_plan(model.bundle, plan_of(model, known_bits)), cache=cache).predict(
            rows_of(known)
        )
    expected = Predictor(compiled_plan(model.bundle)).predict(rows_of(seeds))
    plan = replace(plan_of(model, bits), memo_bytes=memo_bytes)
    predictor = Predictor(compiled_plan(model.bundle, plan), cache=cache)
    chunks = [seeds[i : i + size] for i in range(0, len(seeds), size)]
    batches = [(position, rows_of(chunk)) for position, chunk in enumerate(chunks)]
    made = list(predictor.stream(batches))
    assert [position for position, _ in made] == list(range(len(chunks)))
    for spec in model.outputs:
        got = pa.concat_arrays([outputs[spec.name] for _, outputs in made])
        # Compared as bits: equal NaNs are equal, -0.0 is not 0.0.
        assert bits_of(got) == bits_of(expected[spec.name])


def bits_of(array: pa.Array) -> list[bytes]:
    return [np.array(row.as_py()).tobytes() for row in array]


@pytest.mark.parametrize("case", CASES)
def test_a_second_run_computes_nothing(case: str) -> None:
    make, rows_of = CASES[case]
    model = make()
    cache = fresh_cache()
    everything = plan_of(model, 7)
    first = Predictor(compiled_plan(model.bundle, everything), cache=cache)
    before = first.predict(rows_of(list(range(30))))
    second = Predictor(compiled_plan(model.bundle, everything), cache=cache)
    after = second.predict(rows_of(list(range(30))))
    assert {k: bits_of(v) for k, v in after.items()} == {k: bits_of(v) for k, v in before.items()}
    stats = second.drain().stages
    assert [s.computed for s in stats.values()] == [0] * len(model.stages)
    assert [s.weights_loaded for s in stats.values()] == [0] * len(model.stages)
    assert first.drain().stages[model.stages[-1].name].computed == 30


@covers("B7")
def test_nan_and_negative_zero_are_kept_apart() -> None:
    model = plain(Mlp, "trunk")
    quiet, negative = float("nan"), -0.0
    rows = pa.array([[v] * 8 for v in (0.0, negative, quiet, 0.0)], pa.list_(pa.float32()))
    predictor = Predictor(compiled_plan(model.bundle), cache=fresh_cache())
    predictor.predict({"x": rows})
    assert predictor.drain().stages["output"].duplicates == 1


def test_a_row_has_its_bits_at_every_place_of_a_micro_batch() -> None:
    bundle = narrow().bundle
    rows = vector_rows(list(range(50)), 5)
    expected = bits_of(Predictor(compiled_plan(bundle)).predict({"x": rows})["output"])
    for turn in (1, 2, 3, 7, 19, 33, 49):
        turned = pa.concat_arrays([rows[turn:], rows[:turn]])
        made = bits_of(Predictor(compiled_plan(bundle)).predict({"x": turned})["output"])
        assert made == expected[turn:] + expected[:turn]
