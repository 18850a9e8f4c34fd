"""What one `Model.predict` leaves open for the next one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from kvspark.cache.cache import Cache
from kvspark.errors import RowError
from kvspark.infer.model import Model
from kvspark.infer.predict.kept_predictor import KeptPredictor
from kvspark.plan.plan import Plan
from tests.infer.test_exactness import plain
from tests.small_models import Mlp


def rows(seed: int, count: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 8)).astype("f4")


def test_weights_are_opened_once_for_calls_with_the_same_cache_plan_and_threads() -> None:
    model = plain(Mlp, "trunk")
    cache = Cache.connect("memory://", namespace="kept")
    for seed in range(3):
        model.predict({"x": rows(seed)}, cache=cache, threads=1)
    opened = {name: stage.weights_loaded for name, stage in cache.stats().stages.items()}
    assert set(opened.values()) == {1}


@pytest.mark.parametrize("other", ["cache", "plan", "threads"])
def test_another_cache_plan_or_number_of_threads_gets_a_predictor_of_its_own(other: str) -> None:
    kept = KeptPredictor(plain(Mlp, "trunk").bundle)
    with kept.predictor(None, None, 1) as first:
        pass
    changed = {
        "cache": (None, Cache.connect("memory://", namespace="kept"), 1),
        "plan": (Plan(max_pending_rows=7), None, 1),
        "threads": (None, None, 2),
    }[other]
    with kept.predictor(*changed) as second:
        assert second is not first
    with kept.predictor(*changed) as third:
        assert third is second


def test_two_calls_at_once_never_share_a_predictor() -> None:
    kept = KeptPredictor(plain(Mlp, "trunk").bundle)
    with kept.predictor(None, None, 1) as first, kept.predictor(None, None, 1) as second:
        assert first is not second


def test_threads_that_share_a_model_get_the_rows_that_they_asked_for() -> None:
    model = plain(Mlp, "trunk")
    expected = [Model(model.bundle).predict({"x": rows(seed)}, threads=1) for seed in range(16)]
    with ThreadPoolExecutor(4) as pool:
        made = pool.map(lambda seed: model.predict({"x": rows(seed)}, threads=1), range(16))
        for one, other in zip(made, expected, strict=True):
            assert all(one[name].tobytes() == other[name].tobytes() for name in other)


def test_a_call_that_fails_leaves_nothing_behind() -> None:
    kept = KeptPredictor(plain(Mlp, "trunk").bundle)
    with pytest.raises(RowError), kept.predictor(None, None, 1) as failed:
        raise RowError("a row is bad")
    with kept.predictor(None, None, 1) as next_one:
        assert next_one is not failed
