"""A share decides what is written, and never what comes out."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvspark.cache.cache import Cache
from kvspark.config.cache import CacheConfig
from kvspark.infer.predict.predictor import Predictor
from kvspark.infer.resolve.compiled_plan import compiled_plan
from kvspark.plan.plan import Plan, StagePlan
from tests.infer.sharing_process import SHARED, model, rows
from tests.infer.test_exactness import CASES, bits_of, plan_of
from tests.redis_server import PATIENT_MS, running_redis

pytestmark = pytest.mark.redis

NAMES = count()


def test_what_a_share_turns_away_is_counted():
    plan = Plan({"output": StagePlan(cached=True, share=0.5)})
    cache = Cache.connect("memory://", namespace="n")
    predictor = Predictor(compiled_plan(model().bundle, plan), cache=cache)
    predictor.predict(rows())
    first = predictor.drain().stages["output"]
    predictor.predict(rows())
    assert 0 < first.turned_away < SHARED
    assert predictor.drain().stages["output"].hits == SHARED - first.turned_away


@pytest.fixture(scope="module")
def url():
    with running_redis() as server:
        yield server.url


@pytest.mark.parametrize("case", ["towers", "tokens"])
@settings(max_examples=5)
@given(
    nights=st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=30), min_size=2, max_size=3),
    bits=st.integers(0, 7),
    share=st.sampled_from([0.3, 1.0]),
    lease_from_ms=st.sampled_from([None, 0.0]),
)
def test_any_nights_give_the_bits_of_the_run_without_a_cache(
    url, case, nights, bits, share, lease_from_ms
):
    make, rows_of = CASES[case]
    bundle, plan = make().bundle, plan_of(make(), bits)
    plan = plan.with_stages({n: StagePlan(s.cached, share=share) for n, s in plan.stages.items()})
    config = CacheConfig(
        url=url,
        namespace=f"share-{next(NAMES)}",
        timeout_ms=PATIENT_MS,
        sealed=False,
        lease_from_ms=lease_from_ms,
    )
    for seeds in nights:
        predictor = Predictor(compiled_plan(bundle, plan), cache=Cache.from_config(config))
        made = predictor.predict(rows_of(seeds))
        expected = Predictor(compiled_plan(bundle)).predict(rows_of(seeds))
        for output, array in expected.items():
            assert bits_of(made[output]) == bits_of(array)
        assert predictor.drain().cache_errors == {}
