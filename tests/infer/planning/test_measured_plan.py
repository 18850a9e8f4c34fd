"""The plan of a run follows from what was measured; here the numbers are given, and the rows are real."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import pyarrow as pa
import pytest
import torch

from kvspark.cache.cache import Cache
from kvspark.cache.stage.stage_cache import Writer
from kvspark.infer.model import Model
from kvspark.infer.planning import measured_plan as planning
from kvspark.infer.planning import store_cost
from kvspark.infer.planning.measured_plan import PlannedRun, measured_plan
from kvspark.infer.planning.sampled_rows import SampledRows
from kvspark.infer.planning.store_cost import with_store_cost
from kvspark.infer.predict.predictor import Predictor
from kvspark.infer.resolve.compiled_plan import CompiledPlan, CompiledStage, compiled_plan
from kvspark.plan.costs import StageCost
from kvspark.plan.plan import Plan, StagePlan
from kvspark.plan.table import PlannedStage, PlanTable
from kvspark.spec import Rows
from tests.redis_server import PATIENT_MS, RedisAddress, running_redis
from tests.small_models import Mlp, Towers, seeded

US = 1e-6
DEAR = {"trunk": 5e-3, "output": 100 * US}


def fixed(values: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


@pytest.fixture(scope="module")
def mlp() -> CompiledPlan:
    model = Model.from_torch(seeded(Mlp()), {"x": torch.zeros(3, 8)}, cuts=["trunk"])
    return compiled_plan(model.bundle)


@pytest.fixture(scope="module")
def towers() -> CompiledPlan:
    examples = {"user": torch.zeros(4, 8), "item": torch.zeros(4, 6)}
    model = Model.from_torch(seeded(Towers()), examples, cuts=["user", "item"])
    return compiled_plan(model.bundle)


ROWS = {"x": fixed(np.random.default_rng(5).standard_normal((100, 8)).astype("float32"))}


@pytest.fixture
def store_of_ten_us(monkeypatch: pytest.MonkeyPatch) -> None:
    def given(
        cost: StageCost, stage: CompiledStage, cache: Cache, *, row_bytes: int
    ) -> StageCost | None:
        del cache
        assert row_bytes > 0
        size = stage.codec.bytes_per_row
        return replace(cost, lookup_s=6 * US, fetch_s=4 * US, insert_s=10 * US, entry_bytes=size)

    monkeypatch.setattr(planning, "with_store_cost", given)


@pytest.mark.usefixtures("store_of_ten_us")
def test_what_takes_long_is_cached_and_what_does_not_is_not(mlp: CompiledPlan) -> None:
    cache = Cache.connect("memory://measured-1", namespace="plan")
    dear = measured_plan(mlp, SampledRows.first(ROWS), cache, PlannedRun(50_000, 2, DEAR))
    cheap = measured_plan(
        mlp, SampledRows.first(ROWS), cache, PlannedRun(50_000, 2, {"trunk": US, "output": US})
    )
    assert dear is not None
    assert cheap is not None
    assert dear.cached == {"trunk": True, "output": True}
    assert cheap.cached == {"trunk": False, "output": False}
    assert dear.without_s == pytest.approx(50_000 * 5.1e-3 / 2)
    assert cheap.with_s == cheap.without_s


@pytest.mark.usefixtures("store_of_ten_us")
def test_rows_that_the_store_has_are_expected_to_be_found(mlp: CompiledPlan) -> None:
    cache = Cache.connect("memory://measured-2", namespace="plan")
    run = PlannedRun(50_000, 2, DEAR)
    first = measured_plan(mlp, SampledRows.first(ROWS), cache, run)
    Predictor(mlp, cache=cache).predict(ROWS)
    second = measured_plan(mlp, SampledRows.first(ROWS), cache, run)
    assert first is not None
    assert second is not None
    assert [stage.hit_rate for stage in first.stages] == [0, 0]
    assert all(0.95 < stage.hit_rate < 1 for stage in second.stages)
    assert second.with_s < 0.1 * second.without_s


def filled(
    compiled: CompiledPlan, cache: Cache, share: float, rows: Mapping[str, pa.Array] = ROWS
) -> CompiledPlan:
    """`compiled` with `share` of all rows, once a run has filled `cache` so."""
    stages = {name: StagePlan(cached=True, share=share) for name in ("trunk", "output")}
    shared = CompiledPlan.of(compiled.bundle, Plan(stages))
    Predictor(shared, cache=cache).predict(rows)
    return shared


@pytest.mark.usefixtures("store_of_ten_us")
def test_what_is_expected_to_be_found_follows_the_share_of_the_run_and_that_of_the_store(
    mlp: CompiledPlan,
) -> None:
    cache = Cache.connect("memory://measured-shares", namespace="plan")
    # Which rows a share has follows from keys, and these from the processor: so many are half, on all of them.
    rows = {"x": fixed(np.random.default_rng(6).standard_normal((3_000, 8)).astype("float32"))}
    half = filled(mlp, cache, 0.5, rows)

    def expected(share: float) -> PlannedStage:
        run = PlannedRun(50_000, 2, DEAR, shares=dict.fromkeys(DEAR, share))
        table = measured_plan(half, SampledRows.first(rows), cache, run)
        assert table is not None
        return table.stages[-1]

    whole, same, quarter = map(expected, (1.0, 0.5, 0.25))
    assert 0.35 < same.hit_rate < 0.65
    assert whole.hit_rate == pytest.approx(same.hit_rate, rel=0.1)
    assert quarter.hit_rate == pytest.approx(same.hit_rate / 2, rel=0.15)
    assert [each.lookups for each in (whole, same, quarter)] == [50_000, 25_000, 12_500]
    assert quarter.inserts < same.inserts < whole.inserts


@pytest.mark.usefixtures("store_of_ten_us")
def test_a_small_share_by_rule_hides_no_row_that_the_store_has(mlp: CompiledPlan) -> None:
    """By rule a budget has room for a tenth; measured, the output gets all that it needs."""
    cache = Cache.connect("memory://measured-tenth", namespace="plan")
    filled(mlp, cache, 1.0)
    stages = {name: StagePlan(cached=True, share=0.1) for name in ("trunk", "output")}
    tenth = CompiledPlan.of(mlp.bundle, Plan(stages))
    table = measured_plan(tenth, SampledRows.first(ROWS), cache, PlannedRun(50_000, 2, DEAR))
    assert table is not None
    assert table.stages[-1].hit_rate > 0.9


@pytest.mark.usefixtures("store_of_ten_us")
def test_towers_are_asked_for_their_own_rows(towers: CompiledPlan) -> None:
    """64 users and 8 items in a sample of 256 pairs: so few are computed, however many pairs there are."""
    rng = np.random.default_rng(1)
    users = rng.standard_normal((64, 8)).astype("float32")[rng.integers(0, 64, 256)]
    items = rng.standard_normal((8, 6)).astype("float32")[rng.integers(0, 8, 256)]
    pairs = {"user": fixed(users), "item": fixed(items)}
    seconds = dict.fromkeys(("user", "item"), 1e-3) | {"output": US}
    cache = Cache.connect("memory://measured-3", namespace="plan")
    table = measured_plan(
        towers, SampledRows.first(pairs), cache, PlannedRun(1_000_000, 2, seconds)
    )
    assert table is not None
    rows = {stage.name: stage.rows for stage in table.stages}
    assert rows["output"] > 400  # of 512 distinct pairs
    assert rows["user"] == pytest.approx(2 * 64, rel=0.1)
    assert rows["item"] == pytest.approx(2 * 8, rel=0.1)


@pytest.mark.usefixtures("store_of_ten_us")
def test_bad_rows_of_the_sample_are_left_out(mlp: CompiledPlan) -> None:
    cache = Cache.connect("memory://measured-4", namespace="plan")
    rows = {"x": pa.array([*ROWS["x"].to_pylist(), None], ROWS["x"].type)}
    nothing = {"x": pa.array([None], ROWS["x"].type)}
    run = PlannedRun(50_000, 2, DEAR)
    assert measured_plan(mlp, SampledRows.first(rows), cache, run) == measured_plan(
        mlp, SampledRows.first(ROWS), cache, run
    )
    assert measured_plan(mlp, SampledRows.first(nothing), cache, run) is None


@pytest.mark.parametrize("codec", ["raw", "zstd"])
def test_a_probe_measures_the_store_and_leaves_no_row(mlp: CompiledPlan, codec: str) -> None:
    plan = Plan({name: StagePlan(cached=True, codec=codec) for name in ("trunk", "output")})
    compiled = CompiledPlan.of(mlp.bundle, plan)
    cache = Cache.connect(f"memory://measured-5-{codec}", namespace="plan")
    cost = with_store_cost(StageCost(US), compiled.stages["trunk"], cache, row_bytes=32)
    assert cost is not None
    assert cost.compute_s == US
    assert cost.entry_bytes == 16 * 4
    assert min(cost.lookup_s, cost.insert_s) > 0
    predictor = Predictor(compiled, cache=cache)
    predictor.predict(ROWS)
    assert {stage.hits for stage in predictor.drain().stages.values()} == {0}


@pytest.mark.parametrize(("call_s", "tries"), [(1e-3, 3), (0.05, 1)])
def test_a_slow_store_is_tried_once(
    mlp: CompiledPlan, monkeypatch: pytest.MonkeyPatch, call_s: float, tries: int
) -> None:
    asked: list[int] = []

    def took(*given: object) -> tuple[float, float, float]:
        asked.append(len(given))
        return call_s, call_s, call_s

    monkeypatch.setattr(store_cost, "_tried", took)
    cache = Cache.connect("memory://measured-slow", namespace="plan")
    compiled = CompiledPlan.of(
        mlp.bundle, Plan(dict.fromkeys(("trunk", "output"), StagePlan(cached=True)))
    )
    assert with_store_cost(StageCost(US), compiled.stages["trunk"], cache, row_bytes=32)
    assert len(asked) == tries


def test_a_store_that_is_away_gives_no_plan(mlp: CompiledPlan) -> None:
    away = Cache.connect("redis://127.0.0.1:1", namespace="plan", sealed=False, timeout_ms=50)
    run = PlannedRun(50_000, 2, DEAR)
    assert measured_plan(mlp, SampledRows.first(ROWS), away, run) is None


@pytest.fixture(scope="module")
def full_server() -> Iterator[RedisAddress]:
    with running_redis("--maxmemory-policy", "noeviction") as server:
        yield server


@pytest.mark.redis
@pytest.mark.parametrize("trouble", [None, "full"], ids=["found out", "known"])
def test_of_a_full_store_what_is_there_is_looked_up_and_nothing_is_inserted(
    mlp: CompiledPlan,
    full_server: RedisAddress,
    trouble: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    full_server.ask("CONFIG", "SET", "maxmemory", "0")
    full_server.ask("FLUSHALL")
    run = PlannedRun(50_000, 2, DEAR, trouble=trouble)

    def planned() -> PlanTable:
        cache = Cache.connect(full_server.url, namespace="full", timeout_ms=PATIENT_MS)
        table = measured_plan(mlp, SampledRows.first(ROWS), cache, run)
        assert table is not None
        return table

    Predictor(mlp, cache=Cache.connect(full_server.url, namespace="full")).predict(ROWS)
    full_server.ask("CONFIG", "SET", "maxmemory", "1")
    if trouble is not None:
        monkeypatch.setattr(planning, "with_store_cost", None)  # nobody tries to write
    there = planned()
    assert there.trouble == "full"
    assert there.cached["output"]
    assert there.stages[-1].hit_rate > 0.9
    assert [each.inserts for each in there.stages] == [0, 0]
    assert there.store_bytes == 0
    assert there.with_s < 0.1 * there.without_s
    full_server.ask("FLUSHALL")
    empty = planned()
    assert empty.cached == {"trunk": False, "output": False}
    assert "nothing is inserted" in empty.stages[-1].why
    assert empty.with_s == empty.without_s


class Forgetful(Writer):
    """A writer that says that it has written."""

    def insert(self, digests: Sequence[bytes], columns: tuple[Rows, ...], *, cost_us: int) -> int:
        del columns, cost_us
        return len(digests)


def test_a_store_that_forgets_is_planned_without_inserts(
    mlp: CompiledPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache.connect("memory://forgetful", namespace="plan")
    keyspace = cache.keyspace
    monkeypatch.setattr(
        cache,
        "keyspace",
        lambda *args, **named: replace(keyspace(*args, **named), writer=Forgetful()),
    )
    table = measured_plan(mlp, SampledRows.first(ROWS), cache, PlannedRun(50_000, 2, DEAR))
    assert table is not None
    assert table.trouble == "forgets"
    assert table.cached == {"trunk": False, "output": False}


def test_every_set_of_cached_stages_gives_the_same_bits(towers: CompiledPlan) -> None:
    rng = np.random.default_rng(2)
    pairs = {
        "user": fixed(rng.standard_normal((100, 8)).astype("float32")),
        "item": fixed(rng.standard_normal((100, 6)).astype("float32")),
    }
    alone = Predictor(towers).predict(pairs)
    names = [stage.name for stage in towers.bundle.stages]
    cache = Cache.connect("memory://measured-6", namespace="plan")
    for size in range(len(names) + 1):
        for cached in combinations(names, size):
            plan = Plan({name: StagePlan(cached=name in cached) for name in names})
            predictor = Predictor(CompiledPlan.of(towers.bundle, plan), cache=cache)
            assert predictor.predict(pairs) == alone
