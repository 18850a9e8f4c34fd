"""Rows that are erased while they are read ahead: their values may still be used, and nothing brings them back."""

from __future__ import annotations

import time
from contextlib import closing

import pyarrow as pa
import pytest

from kvspark.cache.tombstones import ERASED, Tombstones
from kvspark.infer.erasure import identities_of_rows
from kvspark.infer.predictor import Predictor
from tests.infer.test_exactness import CASES, bits_of, plan_of
from tests.infer.test_look_ahead import SEEDS, chunks, opened
from tests.redis_server import PATIENT_MS, running_redis

pytestmark = pytest.mark.redis

WARMED = SEEDS[:30]


def seconds_until(is_so) -> None:
    ends = time.monotonic() + PATIENT_MS / 1_000
    while not is_so():
        assert time.monotonic() < ends
        time.sleep(0.01)


@pytest.mark.parametrize("behind", [None, 1 << 20], ids=["at once", "behind"])
def test_neither_what_was_found_ahead_nor_what_is_computed_comes_back(behind) -> None:
    make, rows_of = CASES["mlp"]
    model = make()
    plan = plan_of(model, 7)
    expected = Predictor(model.bundle).predict(rows_of(SEEDS))
    options = {"look_ahead_bytes": 1 << 20, "write_behind_bytes": behind}
    with (
        running_redis() as server,
        closing(opened(server.url)) as other,
        closing(opened(server.url, **options)) as cache,
    ):
        Predictor(model.bundle, plan=plan, cache=other).predict(rows_of(WARMED))
        now = [0.0]
        tombstones = Tombstones(cache._tombstones._space, clock=lambda: now[0])
        cache._tombstones = tombstones
        predictor = Predictor(model.bundle, plan=plan, cache=cache)
        stream = predictor.stream(chunks(rows_of, SEEDS, 6))
        asked = server.count("mget")
        made = [next(stream)]
        # All of the table was read ahead; by now a part of it at least was found.
        seconds_until(lambda: server.count("mget") >= asked + 5)
        purge = other.purge()
        purge._sleep = lambda seconds: now.__setitem__(0, now[0] + seconds)
        purged = purge.rows(
            identities_of_rows(model.bundle, {"x": rows_of(SEEDS)["x"].to_pylist()})
        )
        assert purged.entries >= len(WARMED)
        assert purged.left == 0
        made += list(stream)
        stats = predictor.drain()
        for spec in model.outputs:
            got = pa.concat_arrays([outputs[spec.name] for _, outputs in made])
            assert bits_of(got) == bits_of(expected[spec.name])
        output = stats.stages["output"]
        assert output.hits + output.computed == len(SEEDS)
        assert output.hits > 0
        assert stats.cache_errors[ERASED] > 0
        with closing(opened(server.url)) as later:
            again = Predictor(model.bundle, plan=plan, cache=later)
            again.predict(rows_of(SEEDS))
            assert again.drain().stages["output"].hits == 0
