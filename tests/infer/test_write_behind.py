"""A predictor whose inserts are made behind: the bits, the counts and the end of a stream."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import closing

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvspark.cache.cache import Cache
from kvspark.infer.predict.predictor import Predictor
from kvspark.infer.resolve.compiled_plan import compiled_plan
from kvspark.stats import RunStats
from tests.infer.test_exactness import CASES, bits_of, fresh_cache, plan_of, seed_lists
from tests.redis_server import PATIENT_MS, running_redis

SEEDS = list(range(60))


def behind(cache: Cache, max_bytes: int = 1 << 20) -> Cache:
    """The same store, with a queue before it."""
    return Cache.from_config(cache.config.model_copy(update={"overlap_bytes": max_bytes}))


@pytest.mark.parametrize("case", ["towers", "tokens"])
@settings(deadline=None, max_examples=8)
@given(
    seeds=seed_lists,
    warmed=seed_lists,
    bits=st.integers(0, 7),
    size=st.integers(1, 20),
    max_bytes=st.sampled_from([1, 2_000, 1 << 20]),
)
def test_any_pattern_of_hits_and_any_queue_give_the_bits_of_the_run_without_a_cache(
    case: str, seeds: list[int], warmed: list[int], bits: int, size: int, max_bytes: int
) -> None:
    make, rows_of = CASES[case]
    model, cache = make(), fresh_cache()
    Predictor(compiled_plan(model.bundle, plan_of(model, bits)), cache=cache).predict(
        rows_of(warmed)
    )
    expected = Predictor(compiled_plan(model.bundle)).predict(rows_of(seeds))
    queued = behind(cache, max_bytes)
    predictor = Predictor(compiled_plan(model.bundle, plan_of(model, bits)), cache=queued)
    chunks = [seeds[i : i + size] for i in range(0, len(seeds), size)]
    made = [outputs for _, outputs in predictor.stream((None, rows_of(each)) for each in chunks)]
    # What was written behind, as somebody else finds it.
    after = Predictor(compiled_plan(model.bundle, plan_of(model, bits)), cache=cache).predict(
        rows_of(seeds)
    )
    for spec in model.outputs:
        got = pa.concat_arrays([outputs[spec.name] for outputs in made])
        assert bits_of(got) == bits_of(expected[spec.name]) == bits_of(after[spec.name])
    assert predictor.drain().degraded <= {"dropped"}


@pytest.mark.redis
def test_the_counts_are_those_of_a_run_that_waits_for_its_inserts() -> None:
    ran: list[RunStats] = []
    with running_redis() as server:
        for name in ("at once", "behind"):
            cache = Cache.connect(server.url, namespace=name, timeout_ms=PATIENT_MS)
            with closing(behind(cache) if ran else cache) as cache:
                ran.append(scored(cache))
                assert server.count("set") == 120 * len(ran)
    at_once, later = ran
    assert later.degraded == frozenset()
    for name, stage in at_once.stages.items():
        assert later.stages[name].bytes_written == stage.bytes_written > 0
        assert later.stages[name].computed == stage.computed == 60


def scored(cache: Cache) -> RunStats:
    make, rows_of = CASES["mlp"]
    model = make()
    predictor = Predictor(compiled_plan(model.bundle, plan_of(model, 7)), cache=cache)
    chunks = [SEEDS[at : at + 7] for at in range(0, 60, 7)]
    list(predictor.stream((None, rows_of(each)) for each in chunks))
    return predictor.drain()


@pytest.mark.redis
@pytest.mark.parametrize("how", ["closed", "failed"])
def test_a_stream_that_ends_early_has_written_what_it_computed(how: str) -> None:
    make, rows_of = CASES["mlp"]
    model = make()
    with running_redis() as server:
        cache = Cache.connect(server.url, namespace="n", timeout_ms=PATIENT_MS)
        with closing(behind(cache)) as queued:
            predictor = Predictor(compiled_plan(model.bundle, plan_of(model, 7)), cache=queued)
            # The third batch is waited for when the first two have been computed.
            stream = predictor.stream(batches(rows_of, fails=how == "failed"))
            assert isinstance(stream, Generator)
            next(stream)
            if how == "closed":
                stream.close()
            else:
                with pytest.raises(LookupError):
                    list(stream)
            # Nothing is left to a thread: all was written when the stream was over.
            assert server.count("set") == 2 * predictor.drain().stages["output"].computed > 0
        assert not [each for each in threading.enumerate() if each.name == "kvspark-overlap"]


def batches(rows_of, *, fails: bool):
    for at in range(0, 48, 16):
        if at == 32 and fails:
            raise LookupError
        yield at, rows_of(SEEDS[at : at + 16])
