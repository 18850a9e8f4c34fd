"""Rows of a stage that rests for a while: the same bits, in the same order, and few look-ups before it does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import count
from typing import final

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from kvspark.cache.cache import Cache
from kvspark.cache.stage import worth
from kvspark.errors import RowError
from kvspark.infer.model import Model
from kvspark.infer.predict.predictor import Predictor
from kvspark.infer.resolve.compiled_plan import compiled_plan
from kvspark.infer.stream import stream
from kvspark.plan.plan import Plan, StagePlan
from kvspark.stats import Rest, StageStats
from tests.small_models import Mlp, seeded

NAMES = count()


@cache
def model(*cuts: str) -> Model:
    return Model.from_torch(seeded(Mlp()), {"x": torch.zeros(3, 8)}, cuts=cuts)


def batch_of(rows: np.ndarray) -> dict[str, pa.Array]:
    return {"x": pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), 8)}


def numbers(rows: int, distinct: int) -> np.ndarray:
    chance = np.random.default_rng(rows)
    known = chance.standard_normal((distinct, 8)).astype("float32")
    return known[chance.integers(0, distinct, rows)]


def all_cached(made: Model) -> Plan:
    return Plan({stage.name: StagePlan(cached=True) for stage in made.stages})


def predictor_of(made: Model, name: str) -> Predictor:
    cache = Cache.connect(f"memory://stream-{name}", namespace="stream")
    return Predictor(compiled_plan(made.bundle, all_cached(made)), cache=cache)


def streamed(predictor: Predictor, batches: Sequence[np.ndarray]) -> list[tuple[int, list[object]]]:
    given = ((place, batch_of(rows)) for place, rows in enumerate(batches))
    return [(tag, made["scores"].to_pylist()) for tag, made in predictor.stream(given)]


@final
class Restless:
    """Rests or not, as it is drawn at each call."""

    def __init__(self, drawn: np.random.Generator) -> None:
        self._drawn = drawn

    def rests(self, rows: int = 0) -> bool:
        assert rows >= 0
        return bool(self._drawn.random() < 0.5)

    def rest(self) -> Rest | None:
        return None


@given(
    sizes=st.lists(st.integers(0, 1_500) | st.integers(4_097, 5_000), min_size=1, max_size=4),
    distinct=st.integers(1, 2_000),
    chance=st.integers(0, 2**32),
    cuts=st.sampled_from([(), ("trunk",)]),
)
def test_a_stage_may_rest_and_rise_between_any_two_calls(
    sizes: list[int], distinct: int, chance: int, cuts: tuple[str, ...]
) -> None:
    made = model(*cuts)
    rows = numbers(max(1, sum(sizes)), distinct)
    ends = np.cumsum(sizes)
    batches = [rows[end - size : end] for size, end in zip(sizes, ends, strict=True)]
    expected = streamed(Predictor(compiled_plan(made.bundle)), batches)
    predictor = predictor_of(made, str(next(NAMES)))
    drawn = np.random.default_rng(chance)
    for name, space in predictor.resolver.entries.items():
        predictor.resolver.entries[name] = replace(space, watch=Restless(drawn))
    assert streamed(predictor, batches) == expected
    assert streamed(predictor, batches) == expected
    assert predictor.drain().rows == 2 * sum(sizes)


@pytest.fixture
def hopeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking up takes longer than computing, whatever the machine does; and no time pays."""

    def slower(self: worth.Worth, rows: int) -> Rest | None:
        del rows
        if len(self._computing_s) < 2:
            return None
        return Rest("2026-01-03T01:00:00+00:00", {"slower": 1})

    monkeypatch.setattr(worth.Worth, "_reason", slower)
    monkeypatch.setattr(worth, "SHARE", 0.0)


def output_stats(predictor: Predictor) -> StageStats:
    return predictor.drain().stages["output"]


@pytest.mark.usefixtures("hopeless")
def test_a_cheap_model_looks_up_a_few_rows_before_ten_thousand() -> None:
    made = model()
    rows = [numbers(5_000, 10_000), numbers(4_000, 10_000)]
    alone = streamed(Predictor(compiled_plan(made.bundle)), rows)
    predictor = predictor_of(made, "few")
    assert streamed(predictor, rows) == alone
    stats = output_stats(predictor)
    assert stats.lookups <= 2 * stream.FIRST_ROWS  # equal rows are asked for once
    # The rest of the first batch may have names: what tells of its first rows may be on its way yet.
    assert stats.rested + stats.duplicates >= 9_000 - 2 * stream.FIRST_ROWS
    assert stats.rested >= 4_000
    assert stats.rows == 9_000


@pytest.mark.usefixtures("hopeless")
def test_a_dear_model_does_not_compute_its_first_rows_apart() -> None:
    """Its calls would be padded: of 512 texts in twenty lengths a third is padding."""
    dear = nn.Sequential(nn.Linear(8, 2_048), nn.ReLU(), nn.Linear(2_048, 512), nn.Linear(512, 2))
    made = Model.from_torch(seeded(dear), {"input": torch.zeros(3, 8)}, cuts=())
    cache = Cache.connect("memory://stream-dear", namespace="stream")
    predictor = Predictor(compiled_plan(made.bundle, all_cached(made)), cache=cache)
    rows = {"input": batch_of(numbers(5_000, 10_000))["x"]}
    list(predictor.stream([(0, rows)]))
    stats = predictor.drain().stages[made.stages[-1].name]
    assert (stats.rows, stats.rested) == (5_000, 0)


class Refusing(nn.Module):
    """Takes no id above 9."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 2)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.table(ids)


def refusing(name: str) -> Predictor:
    made = Model.from_torch(seeded(Refusing()), {"ids": torch.zeros(3, dtype=torch.int64)})
    return predictor_of(made, name)


def ids(*bad: int) -> dict[str, pa.Array]:
    rows = np.arange(5_000) % 10
    rows[list(bad)] = 77
    return {"ids": pa.array(rows)}


@pytest.mark.parametrize("place", [3, 700, 4_800])
def test_a_bad_row_is_named_by_its_place_in_the_whole_batch(place: int) -> None:
    with pytest.raises(RowError) as caught:
        list(refusing(f"bad-{place}").stream([("a", ids()), ("b", ids(place))]))
    assert (caught.value.batch, caught.value.row) == ("b", place)
    with pytest.raises(RowError) as caught:
        list(refusing(f"first-{place}").stream([("a", ids(place)), ("b", ids())]))
    assert (caught.value.batch, caught.value.row) == ("a", place)


def test_bad_rows_of_every_piece_of_a_batch_are_set_aside() -> None:
    bad = [3, 700, 701, 4_800]
    ((_, made, found),) = refusing("aside").stream_apart([("a", ids(*bad))])
    assert sorted(found) == bad
    assert [row for row, value in enumerate(made["output"].to_pylist()) if value is None] == bad
