"""A budget is shared by the stages that are cached, and never passed."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kvspark.cache.stage.admission import FILLED, entry_memory_bytes
from kvspark.errors import UsageError
from kvspark.infer.model import Model
from kvspark.infer.resolve.budget import within_budget
from kvspark.plan.plan import Plan, StagePlan
from tests.small_models import Mlp, seeded


@pytest.fixture(scope="module")
def mlp() -> Model:
    return Model.from_torch(seeded(Mlp()), {"x": torch.zeros(4, 8)}, cuts=["trunk"])


def planned_bytes(model: Model, plan: Plan, rows: int) -> float:
    return sum(
        rows * plan.stages[stage.name].share * entry_memory_bytes(stage.bytes_per_row or 0)
        for stage in model.stages
        if plan.stages[stage.name].cached
    )


@given(rows=st.integers(0, 10**9), budget_bytes=st.integers(1, 10**12))
def test_what_is_planned_fits_the_budget_and_uses_it(
    mlp: Model, rows: int, budget_bytes: int
) -> None:
    whole = Plan().for_bundle(mlp.bundle)
    plan = within_budget(whole, mlp.stages, rows=rows, budget_bytes=budget_bytes, chosen=())
    needed = planned_bytes(mlp, whole, rows)
    expected = min(needed, FILLED * budget_bytes)
    assert planned_bytes(mlp, plan, rows) == pytest.approx(expected)
    assert plan.stages["trunk"].share == plan.stages["output"].share


def test_a_share_that_was_chosen_stays_and_leaves_less_for_the_others(mlp: Model) -> None:
    chosen = Plan({"trunk": StagePlan(cached=True, share=0.5)}).for_bundle(mlp.bundle)
    sizes = {stage.name: entry_memory_bytes(stage.bytes_per_row or 0) for stage in mlp.stages}
    budget_bytes = 1_000 * (sizes["trunk"] // 2) + 1_000 * sizes["output"] // 4
    plan = within_budget(
        chosen, mlp.stages, rows=1_000, budget_bytes=budget_bytes, chosen={"trunk"}
    )
    assert plan.stages["trunk"].share == 0.5
    assert plan.stages["output"].share == pytest.approx(FILLED / 4, rel=0.01)


def test_a_budget_that_is_spent_leaves_the_other_stages_uncached(mlp: Model) -> None:
    whole = Plan().for_bundle(mlp.bundle)
    plan = within_budget(whole, mlp.stages, rows=1_000, budget_bytes=1, chosen={"trunk"})
    assert [plan.stages[name].cached for name in ("trunk", "output")] == [True, False]


def test_what_is_not_cached_any_more_is_not_computed_first_either(mlp: Model) -> None:
    given = Plan(distinct_first=("trunk",)).for_bundle(mlp.bundle)
    spent = within_budget(given, mlp.stages, rows=1_000, budget_bytes=1, chosen={"output"})
    fits = within_budget(given, mlp.stages, rows=1_000, budget_bytes=10**9, chosen=())
    assert given.uncached().for_bundle(mlp.bundle).distinct_first == ()
    assert spent.for_bundle(mlp.bundle).distinct_first == ()
    assert fits.for_bundle(mlp.bundle).distinct_first == ("trunk",)


@pytest.mark.parametrize("share", [0.0, -0.5, 1.5])
def test_a_share_is_a_part(share: float) -> None:
    with pytest.raises(UsageError, match="share must be above 0"):
        StagePlan(cached=True, share=share)
