"""A stage whose look-ups cost more than they save is computed without them: the same bits, and told."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pytest
import torch

from kvspark.cache.cache import Cache
from kvspark.cache.stage import worth
from kvspark.cache.stage.store_entries import StoreWriter
from kvspark.infer.compute.bad_row_rule import BadRowRule
from kvspark.infer.compute.computations import Computations
from kvspark.infer.compute.given_rows import Given
from kvspark.infer.compute.values import Values
from kvspark.infer.model import Model
from kvspark.infer.predict.predictor import Predictor
from kvspark.infer.resolve import planned_entries
from kvspark.infer.resolve.compiled_plan import compiled_plan
from kvspark.model.stage.stage import Stage
from kvspark.plan.plan import Plan, StagePlan
from kvspark.spec import Rows
from kvspark.stats import RunStats
from tests.small_models import Mlp, Towers, seeded

BATCHES = 6
ROWS = 100


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.from_torch(seeded(Mlp()), {"x": torch.zeros(3, 8)}, cuts=["trunk"])


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage rests as soon as its cache has cost anything, and for good."""
    monkeypatch.setattr(worth, "LIMIT_S", 0.0)
    monkeypatch.setattr(worth, "SHARE", 0.0)
    monkeypatch.setattr(worth, "COMES_AGAIN", 0.0)


def batches() -> Iterator[tuple[int, dict[str, pa.Array]]]:
    rows = np.random.default_rng(3).standard_normal((BATCHES * ROWS, 8)).astype("float32")
    for batch in range(BATCHES):
        part = rows[batch * ROWS : (batch + 1) * ROWS]
        yield batch, {"x": pa.FixedSizeListArray.from_arrays(pa.array(part.ravel()), 8)}


def scored(model: Model, plan: Plan, cache: Cache | None) -> tuple[list[list[object]], RunStats]:
    """All outputs, and what happened; a window has one batch."""
    predictor = Predictor(compiled_plan(model.bundle, plan), cache=cache)
    made = [outputs["scores"].to_pylist() for _, outputs in predictor.stream(batches())]
    return made, predictor.drain()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("pending", [50, 250, 4096])
def test_rows_have_the_same_bits_before_a_stage_rests_and_after(model: Model, pending: int) -> None:
    cache = Cache.connect(f"memory://watched-{pending}", namespace="watched")
    plan = Plan(max_pending_rows=pending)
    alone, _ = scored(model, plan, None)
    watched, stats = scored(model, plan, cache)
    again, _ = scored(model, plan, cache)
    assert watched == again == alone
    output = stats.stages["output"]
    assert output.lookups == ROWS  # the first batch; its debt is never paid
    assert output.rested == (BATCHES - 1) * ROWS
    assert (output.hits, output.bytes_written) == (0, 0)
    assert output.computed == BATCHES * ROWS
    assert stats.rests["output"].reasons == {"owes": 1}


@pytest.mark.usefixtures("impatient")
def test_a_stage_rests_beside_a_thread_that_inserts_as_well(model: Model) -> None:
    cache = Cache.connect("memory://beside", namespace="watched", overlap_bytes=1 << 24)
    alone, _ = scored(model, Plan(), None)
    watched, stats = scored(model, Plan(max_pending_rows=50), cache)
    assert watched == alone
    assert stats.stages["output"].rested > 0


def test_a_row_that_a_thread_inserts_is_counted_once(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []

    def noted(
        self: worth.Worth, seconds: float, rows: int, size_bytes: int, *, is_answered: bool
    ) -> None:
        del self, seconds, size_bytes
        assert is_answered
        counted.append(rows)

    monkeypatch.setattr(worth.Worth, "_took", noted)
    cache = Cache.connect("memory://counted", namespace="watched", overlap_bytes=1 << 24)
    stages = {"trunk": StagePlan(cached=False), "output": StagePlan(cached=True)}
    scored(model, Plan(stages), cache)
    assert sum(counted) == 2 * BATCHES * ROWS  # looked up, and inserted


@pytest.mark.usefixtures("impatient")
def test_a_plan_that_does_not_watch_asks_for_every_row(model: Model) -> None:
    cache = Cache.connect("memory://unwatched", namespace="watched")
    _, first = scored(model, Plan(watch=False), cache)
    _, second = scored(model, Plan(watch=False), cache)
    assert {stage.rested for stats in (first, second) for stage in stats.stages.values()} == {0}
    assert second.stages["output"].hits == BATCHES * ROWS
    assert first.rests == second.rests == {}


def test_an_entry_says_what_the_stages_before_took_as_well(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hit at the last stage spares the trunk: by its own microsecond it would never pay."""
    costs_us: list[int] = []
    run, insert = Computations.run, StoreWriter.insert

    def slow_trunk(self: Computations, stage: Stage, given: Given, rule: BadRowRule) -> Values:
        if stage.name == "trunk":
            time.sleep(0.1)
        return run(self, stage, given, rule)

    def noted(
        self: StoreWriter, digests: Sequence[bytes], columns: tuple[Rows, ...], *, cost_us: int
    ) -> int:
        costs_us.append(cost_us)
        return insert(self, digests, columns, cost_us=cost_us)

    monkeypatch.setattr(Computations, "run", slow_trunk)
    monkeypatch.setattr(StoreWriter, "insert", noted)
    stages = {name: StagePlan(cached=True) for name in ("trunk", "output")}
    scored(model, Plan(stages), Cache.connect("memory://costs", namespace="watched"))
    rows = BATCHES * ROWS
    assert len(costs_us) == 2
    assert all(cost_us >= 0.1e6 / rows - 1 for cost_us in costs_us)


def test_a_trunk_behind_a_cached_output_is_worth_what_a_new_head_would_save(model: Model) -> None:
    both = {name: StagePlan(cached=True) for name in ("trunk", "output")}
    trunk = {**both, "output": StagePlan(cached=False)}
    chances = [
        planned_entries._again(compiled_plan(model.bundle, Plan(stages)), model.stages[0])
        for stages in (both, trunk)
    ]
    assert chances == [worth.COMES_AGAIN * worth.MADE_ANEW, worth.COMES_AGAIN]


def test_a_tower_behind_cached_pairs_is_asked_for_by_new_pairs() -> None:
    examples = {"user": torch.zeros(4, 8), "item": torch.zeros(4, 6)}
    towers = Model.from_torch(seeded(Towers()), examples, cuts=["user", "item"])
    stages = {stage.name: StagePlan(cached=True) for stage in towers.stages}
    compiled = compiled_plan(towers.bundle, Plan(stages))
    chances = [planned_entries._again(compiled, stage) for stage in towers.stages]
    assert chances == [worth.COMES_AGAIN] * 3
