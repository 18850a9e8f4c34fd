"""Rows that are cheap to compute: none is searched for, and all have the bits that they have otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import count

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kvspark.cache.cache import Cache
from kvspark.errors import RowError
from kvspark.infer.model import Model
from kvspark.infer.predict.predictor import Predictor
from kvspark.infer.resolve import resolve
from kvspark.infer.resolve.compiled_plan import compiled_plan
from kvspark.infer.resolve.keyed_rows import RowNumbers
from kvspark.infer.rows.arrow import output_array
from kvspark.infer.rows.columns import Column
from kvspark.infer.rows.distinct import Distinct, distinct
from kvspark.plan.plan import Plan
from tests.small_models import Encoder, Mlp, Skip, Towers, encoder_examples, seeded

NAMES = count()
Batch = dict[str, pa.Array]


@cache
def model(name: str) -> Model:
    if name == "towers":
        examples = {"user": torch.zeros(3, 8), "item": torch.zeros(3, 6)}
        return Model.from_torch(seeded(Towers()), examples)
    if name == "tokens":
        return Model.from_torch(
            seeded(Encoder()), encoder_examples(), cuts=["head@input"], variable_length=list(TOKENS)
        )
    module, cuts = {"mlp": (Mlp(), ["trunk"]), "skip": (Skip(), ["first", "middle"])}[name]
    return Model.from_torch(seeded(module), {"x": torch.zeros(3, 8)}, cuts=cuts)


TOKENS = ("input_ids", "attention_mask")
MODELS = ("mlp", "skip", "towers", "tokens")


def rows_of(made: Model, values: Sequence[int]) -> Batch:
    """A row for each of `values`; equal ones are equal rows."""
    if made.inputs[0].name in TOKENS:
        ids = [np.arange(1, 2 + value % 7) for value in values]
        masks = [np.ones_like(each) for each in ids]
        kind = pa.list_(pa.int64())
        return dict(zip(TOKENS, (pa.array(ids, kind), pa.array(masks, kind)), strict=True))
    drawn = np.random.default_rng(3).standard_normal((20, 8)).astype("float32")
    return {
        spec.name: output_array(drawn[np.array(values, dtype=np.intp), : spec.shape[0]], spec)
        for spec in made.inputs
    }


def planned(made: Model, *, finds: bool | None, pending: int = 4096) -> Plan:
    plan = Plan(max_pending_rows=pending).for_bundle(made.bundle)
    return plan.with_stages({n: replace(s, finds_equal_rows=finds) for n, s in plan.stages.items()})


def predictor_of(name: str, *, finds: bool | None = None, pending: int = 4096) -> Predictor:
    made = model(name)
    return Predictor(compiled_plan(made.bundle, planned(made, finds=finds, pending=pending)))


@given(
    name=st.sampled_from(MODELS),
    batches=st.lists(st.lists(st.integers(0, 19), max_size=9), max_size=5),
    pending=st.sampled_from([1, 4, 100]),
)
def test_the_bits_are_those_of_a_run_that_finds_equal_rows(
    name: str, batches: list[list[int]], pending: int
) -> None:
    given_rows = [(tag, rows_of(model(name), values)) for tag, values in enumerate(batches)]
    results = [
        [
            (tag, {k: v.to_pylist() for k, v in made.items()})
            for tag, made in predictor_of(name, finds=finds, pending=pending).stream(given_rows)
        ]
        for finds in (True, False, None)
    ]
    assert results[0] == results[1] == results[2]
    assert [tag for tag, _ in results[1]] == list(range(len(batches)))


def test_nothing_is_hashed_and_no_row_has_a_name_where_rows_are_cheap(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def called(*_: object) -> object:
        raise AssertionError("a row was looked for")

    predictor = predictor_of("mlp")
    expected = predictor.predict(rows_of(model("mlp"), [1, 2, 1]))
    monkeypatch.setattr(resolve, "distinct", called)
    monkeypatch.setattr(resolve, "row_keys", called)
    monkeypatch.setattr(RowNumbers, "__getitem__", called)
    monkeypatch.setattr(RowNumbers, "__iter__", called)
    assert predictor.predict(rows_of(model("mlp"), [1, 2, 1])) == expected
    stats = predictor.drain().stages
    assert {n: (s.rows, s.computed, s.duplicates) for n, s in stats.items()} == {
        "trunk": (6, 6, 0),
        "output": (6, 6, 0),
    }


def test_equal_rows_of_a_dear_stage_are_computed_once_behind_a_cheap_head() -> None:
    predictor = predictor_of("tokens")
    predictor.predict(rows_of(model("tokens"), [1, 2, 1, 1]))
    stats = predictor.drain().stages
    assert (stats["head@input"].computed, stats["head@input"].duplicates) == (2, 2)
    assert (stats["head"].computed, stats["head"].duplicates) == (4, 0)


def test_rows_that_are_distinct_are_searched_once_for_all_stages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    searched: list[int] = []

    def counted(columns: Sequence[Column]) -> Distinct:
        searched.append(len(columns))
        return distinct(columns)

    monkeypatch.setattr(resolve, "distinct", counted)
    for name, searches in (("skip", 1), ("mlp", 1), ("towers", 3)):
        searched.clear()
        predictor_of(name, finds=True).predict(rows_of(model(name), [1, 2, 1, 3]))
        assert len(searched) == searches


def test_a_stage_whose_rows_are_looked_up_finds_equal_rows_in_any_case() -> None:
    made = model("mlp")
    cache = Cache.connect(f"memory://every-{next(NAMES)}", namespace="tests")
    for hits in (0, 2):
        plan = compiled_plan(made.bundle, planned(made, finds=False))
        predictor = Predictor(plan, cache=cache)
        predictor.predict(rows_of(made, [1, 2, 1]))
        stats = predictor.drain().stages["output"]
        assert (stats.duplicates, stats.lookups, stats.hits) == (1, 2, hits)


class Refusing(torch.nn.Module):
    """Takes no id above 9."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(10, 4)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.table(ids)


def refusing() -> Predictor:
    made = Model.from_torch(seeded(Refusing()), {"ids": torch.zeros(3, dtype=torch.int64)})
    return Predictor(compiled_plan(made.bundle, planned(made, finds=False)))


def test_a_bad_row_is_named_by_its_place_in_its_own_batch() -> None:
    batches = [("a", {"ids": pa.array([1, 2])}), ("b", {"ids": pa.array([3, 4, 77, 5])})]
    with pytest.raises(RowError) as caught:
        list(refusing().stream(batches))
    assert (caught.value.batch, caught.value.row) == ("b", 2)


def test_bad_rows_that_are_set_aside_are_those_of_their_own_batch() -> None:
    batches = [
        ("a", {"ids": pa.array([77, 2])}),
        ("b", {"ids": pa.array([3, None, 88])}),
        ("c", {"ids": pa.array([], pa.int64())}),
    ]
    found = [
        (tag, sorted(bad), [row is None for row in made["output"].to_pylist()])
        for tag, made, bad in refusing().stream_apart(batches)
    ]
    assert found == [
        ("a", [0], [True, False]),
        ("b", [1, 2], [False, True, True]),
        ("c", [], []),
    ]


def test_numbers_are_names_only_when_somebody_reads_them() -> None:
    names = RowNumbers(5, 250, are_distinct=True)
    assert list(names) == [names[i] for i in range(5)]
    assert list(names[3:]) == [(253).to_bytes(8, "little"), (254).to_bytes(8, "little")]
    assert names[1:].are_distinct
    assert len(set(names)) == 5
