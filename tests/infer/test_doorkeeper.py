"""A doorkeeper decides what is written, and never what comes out."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvspark.cache.cache import Cache
from kvspark.config.cache import CacheConfig
from kvspark.infer.plan import Plan, StagePlan
from kvspark.infer.predictor import Predictor
from tests.infer.sharing_process import SHARED, checksum, model, rows
from tests.infer.test_exactness import CASES, bits_of, plan_of
from tests.redis_server import PATIENT_MS, RedisAddress, running_redis

pytestmark = pytest.mark.redis

NAMES = count()


@pytest.fixture(scope="module")
def server() -> Iterator[RedisAddress]:
    with running_redis() as running:
        yield running


def config(url: str, *, lease_from_ms: float | None = None) -> CacheConfig:
    return CacheConfig(
        url=url,
        namespace=f"door-{next(NAMES)}",
        timeout_ms=PATIENT_MS,
        sealed=False,
        lease_from_ms=lease_from_ms,
        doorkeeper_bytes=2**20,
    )


@pytest.mark.parametrize("lease_from_ms", [None, 0.0], ids=["alone", "with leases"])
def test_three_nights_write_nothing_then_all_then_nothing(server, lease_from_ms):
    door = config(server.url, lease_from_ms=lease_from_ms)
    expected = checksum(Predictor(model().bundle).predict(rows()))
    told = []
    for _ in range(3):
        predictor = Predictor(model().bundle, cache=Cache.from_config(door))
        assert checksum(predictor.predict(rows())) == expected
        stats = predictor.drain()
        stage = stats.stages["output"]
        told.append((stage.hits, stage.computed, stage.turned_away, stage.bytes_written > 0))
        assert stats.cache_errors == {}
    assert told == [(0, SHARED, SHARED, False), (0, SHARED, 0, True), (SHARED, 0, 0, False)]


def test_what_a_share_turns_away_is_counted():
    plan = Plan({"output": StagePlan(cached=True, share=0.5)})
    cache = Cache.connect("memory://", namespace="n")
    predictor = Predictor(model().bundle, plan=plan, cache=cache)
    predictor.predict(rows())
    first = predictor.drain().stages["output"]
    predictor.predict(rows())
    assert 0 < first.turned_away < SHARED
    assert predictor.drain().stages["output"].hits == SHARED - first.turned_away


@pytest.mark.parametrize("case", ["towers", "tokens"])
@settings(max_examples=5)
@given(
    nights=st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=30), min_size=2, max_size=3),
    bits=st.integers(0, 7),
    share=st.sampled_from([0.3, 1.0]),
    lease_from_ms=st.sampled_from([None, 0.0]),
)
def test_any_nights_give_the_bits_of_the_run_without_a_cache(
    server, case, nights, bits, share, lease_from_ms
):
    make, rows_of = CASES[case]
    bundle, plan = make().bundle, plan_of(make(), bits)
    plan = plan.with_stages({n: StagePlan(s.cached, share=share) for n, s in plan.stages.items()})
    door = config(server.url, lease_from_ms=lease_from_ms)
    for seeds in nights:
        predictor = Predictor(bundle, plan=plan, cache=Cache.from_config(door))
        made = predictor.predict(rows_of(seeds))
        expected = Predictor(bundle).predict(rows_of(seeds))
        for output, array in expected.items():
            assert bits_of(made[output]) == bits_of(array)
        assert predictor.drain().cache_errors == {}
