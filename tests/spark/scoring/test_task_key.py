"""A worker keeps a predictor for each model, plan and cache: whatever a plan says makes another one."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import pytest

from kvspark.plan.plan import Plan, StagePlan
from kvspark.spark.scoring.score import _key


@dataclass(frozen=True)
class Shipped:
    manifest: bytes = b"model"


OTHER: dict[str, Any] = {"cached": False, "codec": "zstd", "share": 0.5, "finds_equal_rows": True}


def key(stage: StagePlan) -> bytes:
    return _key(Shipped(), Plan({"output": stage}), None)  # type: ignore[arg-type]


def test_every_setting_of_a_stage_is_tried() -> None:
    assert OTHER.keys() == {field.name for field in fields(StagePlan) if field.compare}


def test_the_reasons_of_a_plan_make_no_other_predictor() -> None:
    assert key(StagePlan(cached=True, why="it pays")) == key(StagePlan(cached=True))


@pytest.mark.parametrize("name", OTHER)
def test_a_stage_that_is_planned_otherwise_has_another_predictor(name: str) -> None:
    stage = StagePlan(cached=True)
    assert key(replace(stage, **{name: OTHER[name]})) != key(stage) == key(StagePlan(cached=True))
