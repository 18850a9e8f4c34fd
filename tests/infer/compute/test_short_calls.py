"""Smaller calls at the end of a group: fewer copies, the same bits, and remembered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache as once
from itertools import count
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import kvspark.model.trials.fewer_rows as trial
from kvspark.cache.cache import Cache
from kvspark.infer.compute.short_calls import SIZES, ShortCalls, cheapest
from kvspark.infer.model import Model
from kvspark.infer.predict.predictor import Predictor
from kvspark.infer.resolve.compiled_plan import compiled_plan
from kvspark.model.run.computation import GraphComputation
from kvspark.plan.plan import Plan
from kvspark.stats import StageStats
from tests.small_models import encoder_examples, seeded

NAMES = count()


class Texts(torch.nn.Module):
    """A transformer's layer over tokens, of which the first is the result."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(50, 64)
        self.layer = torch.nn.TransformerEncoderLayer(64, 4, 128, batch_first=True, dropout=0.0)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        hidden = self.layer(self.embed(input_ids), src_key_padding_mask=attention_mask == 0)
        return hidden[:, 0]


@once
def texts() -> Model:
    return Model.from_torch(
        seeded(Texts()), encoder_examples(), variable_length=["input_ids", "attention_mask"]
    )


def token_rows(lengths: Sequence[int], seed: int = 0) -> dict[str, pa.Array]:
    random = np.random.default_rng(seed)
    ids = [random.integers(0, 50, size=length).tolist() for length in lengths]
    return {
        "input_ids": pa.array(ids, pa.list_(pa.int64())),
        "attention_mask": pa.array([[1] * length for length in lengths], pa.list_(pa.int64())),
    }


def scored(
    rows: Mapping[str, pa.Array], *, cache: Cache | None = None, plan: Plan | None = None
) -> tuple[bytes, StageStats]:
    """The bits of the results, and what was counted, of a new predictor."""
    predictor = Predictor(
        compiled_plan(texts().bundle, plan or Plan(short_calls=True)), cache=cache
    )
    made = predictor.predict(rows)["output"]
    (stats,) = predictor.drain().stages.values()
    return np.array(made.to_pylist(), dtype="<f4").tobytes(), stats


def fresh_cache() -> Cache:
    return Cache.connect(f"memory://short-{next(NAMES)}", namespace="tests")


@settings(deadline=None, max_examples=25)
@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=70), seed=st.integers(0, 9))
def test_the_bits_are_those_of_whole_calls(lengths: list[int], seed: int) -> None:
    rows = token_rows(lengths, seed)
    whole, _ = scored(rows, plan=Plan(short_calls=False))
    predictor = Predictor(compiled_plan(texts().bundle, Plan(short_calls=True)))
    predictor.predict(token_rows([*range(1, 41)]))  # tries every length
    made = predictor.predict(rows)["output"]
    assert np.array(made.to_pylist(), dtype="<f4").tobytes() == whole


def test_what_was_found_is_remembered_by_the_next_process(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def counted(program: Any, tensors: Any, sizes: Any) -> Any:
        tried.append(tensors[0].shape[1])
        return program(*tensors), tuple(sizes)

    monkeypatch.setattr(trial, "with_fewer_rows", counted)
    cache = fresh_cache()
    _, first = scored(token_rows([20] * 3, seed=1), cache=cache)
    assert (tried, first.micro_batches, first.padding_rows) == ([20], 1, 29)
    _, second = scored(token_rows([20] * 3, seed=2), cache=cache)
    assert (tried, second.micro_batches, second.padding_rows) == ([20], 1, 1)
    _, elsewhere = scored(token_rows([20] * 3, seed=3), cache=fresh_cache())
    assert (tried, elsewhere.padding_rows) == ([20, 20], 29)


def test_a_size_that_changes_a_bit_is_not_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        trial, "with_fewer_rows", lambda program, tensors, sizes: (program(*tensors), ())
    )
    cache = fresh_cache()
    for seed in range(3):
        _, stats = scored(token_rows([20] * 3, seed), cache=cache)
        assert (stats.micro_batches, stats.padding_rows) == (1, 29)


def test_a_plan_without_short_calls_tries_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def counted(program: Any, tensors: Any, sizes: Any) -> Any:
        tried.append(len(tensors[0]))
        return program(*tensors), ()

    monkeypatch.setattr(trial, "with_fewer_rows", counted)
    scored(token_rows([20] * 40), plan=Plan(short_calls=False))
    assert tried == []
    scored(token_rows([20] * 40))
    assert tried == [32]


def test_a_cache_alone_makes_the_last_calls_small(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def counted(program: Any, tensors: Any, sizes: Any) -> Any:
        tried.append(len(tensors[0]))
        return program(*tensors), ()

    monkeypatch.setattr(trial, "with_fewer_rows", counted)
    scored(token_rows([20] * 40), plan=Plan())
    assert tried == []
    scored(token_rows([20] * 40), plan=Plan(), cache=fresh_cache())
    assert tried == [32]


def test_nothing_is_tried_while_the_store_does_not_say_what_was(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried: list[int] = []

    def counted(program: Any, tensors: Any, sizes: Any) -> Any:
        tried.append(len(tensors[0]))
        return program(*tensors), ()

    monkeypatch.setattr(trial, "with_fewer_rows", counted)
    nobody = Cache.connect("redis://127.0.0.1:9", namespace="tests", sealed=False)
    _, stats = scored(token_rows([20] * 40), cache=nobody)
    assert "did not answer" in caplog.text
    assert (tried, stats.micro_batches) == ([], 2)


def test_a_trial_that_fails_is_no_trouble_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError

    expected, _ = scored(token_rows([20] * 40))
    monkeypatch.setattr(trial, "with_fewer_rows", broken)
    made, stats = scored(token_rows([20] * 40))
    assert (made, stats.micro_batches) == (expected, 2)


class Answers:
    """Proofs that were found before."""

    def __init__(self, equal: Mapping[tuple[int, int], bool]) -> None:
        self.equal = equal

    def known(self, shapes: Sequence[tuple[int, int]]) -> dict[tuple[int, int], bool] | None:
        return {shape: self.equal[shape] for shape in shapes if shape in self.equal}

    def add(self, shapes: Mapping[tuple[int, int], bool]) -> None:
        raise AssertionError


def test_a_length_of_which_a_part_is_known_is_tried_again() -> None:
    stage = texts().bundle.stages[-1]
    computation = texts().bundle.computation(stage, threads=1)
    assert isinstance(computation, GraphComputation)
    every = {(20, size): True for size in SIZES}
    short = ShortCalls(computation, Answers(every))
    short.prepare([20, 24])
    assert [*short.parts(20, 32, 3)] == [4]
    assert [*short.parts(24, 32, 3)] == [32]
    short = ShortCalls(computation, Answers({(20, size): False for size in SIZES}))
    short.prepare([20])
    assert [*short.parts(20, 32, 1)] == [32]
    short = ShortCalls(computation, Answers({(20, 2): True}))
    short.prepare([20])
    assert [*short.parts(20, 32, 1)] == [32]


@given(rows=st.integers(1, 31), sizes=st.sets(st.sampled_from((2, 4, 8, 16)), min_size=1))
def test_the_last_rows_are_called_once_each_and_at_no_greater_cost(
    rows: int, sizes: set[int]
) -> None:
    calls = cheapest(rows, tuple(sorted(sizes)), 32)
    assert sum(calls) >= rows
    assert sum(calls[:-1]) < rows
    assert sum(calls) + len(calls) <= 33
    assert calls == (32,) or set(calls) <= sizes
