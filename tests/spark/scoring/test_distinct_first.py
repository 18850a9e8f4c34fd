"""Distinct values are computed first for the cache's sake, and only as long as it takes them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from kvspark.cache.cache import Cache
from kvspark.cache.stage import worth
from kvspark.infer.model import Model
from kvspark.infer.predict.predictor import Predictor
from kvspark.infer.resolve.compiled_plan import compiled_plan
from kvspark.plan.plan import Plan
from kvspark.spark.scoring import distinct_first
from kvspark.spark.scoring.distinct_first import WarmTask
from kvspark.stats import NOTHING, RunStats

BATCHES, ROWS = 4, 300


def batches() -> list[pa.RecordBatch]:
    rows = np.random.default_rng(3).standard_normal((BATCHES * ROWS, 8)).astype("float32")
    parts = np.split(rows, BATCHES)
    return [pa.record_batch([pa.array(list(part))], names=["_0"]) for part in parts]


class Counted:
    """A tally of one process."""

    def __init__(self) -> None:
        self.stats = NOTHING

    def add(self, call: str, counted: RunStats) -> None:
        del call
        self.stats += counted


@pytest.mark.parametrize(("limit_s", "computed"), [(float("inf"), BATCHES), (0.0, 2)])
def test_a_stage_that_rests_is_not_computed_for_nothing(
    towers: Model, monkeypatch: pytest.MonkeyPatch, limit_s: float, computed: int
) -> None:
    monkeypatch.setattr(worth, "LIMIT_S", limit_s)
    for name in ("SHARE", "COMES_AGAIN", "MADE_ANEW"):  # nothing makes up for what is lost
        monkeypatch.setattr(worth, name, 0.0)
    cache = Cache.connect(f"memory://first-{computed}", namespace="first")
    compiled = compiled_plan(towers.bundle, Plan(distinct_first=("user",)))
    predictor = Predictor(compiled, cache=cache)
    monkeypatch.setattr(distinct_first, "predictor_for", lambda _: predictor)
    told = Counted()
    task = WarmTask(None, "user", ("user",), "", told)  # type: ignore[arg-type]  # as they are in one process
    assert len(list(task.run(batches()))) == computed
    user = told.stats.stages["user"]
    assert user.computed == computed * ROWS
    assert (user.rested > 0) == (computed < BATCHES)
