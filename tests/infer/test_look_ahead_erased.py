"""Rows that are erased while they are read ahead: their values may still be used, and nothing brings them back."""

from __future__ import annotations

from contextlib import closing

import pyarrow as pa
import pytest

from kvspark.cache.cache import Cache
from kvspark.cache.entry.writer import ERASED
from kvspark.infer.erasure import identities_of_rows
from kvspark.infer.model import Model
from kvspark.infer.predict.predictor import Predictor
from kvspark.infer.resolve.compiled_plan import compiled_plan
from tests.infer.test_exactness import CASES, bits_of, plan_of
from tests.infer.test_look_ahead import SEEDS, chunks, opened
from tests.redis_cluster import wait_until
from tests.redis_server import running_redis

pytestmark = pytest.mark.redis

WARMED = SEEDS[:30]


def hits(model: Model, cache: Cache) -> int:
    """How many rows another run finds."""
    _, rows_of = CASES["mlp"]
    with closing(cache):
        predictor = Predictor(compiled_plan(model.bundle, plan_of(model, 7)), cache=cache)
        predictor.predict(rows_of(SEEDS))
        return predictor.drain().stages["output"].hits


def test_neither_what_was_found_ahead_nor_what_is_computed_comes_back() -> None:
    make, rows_of = CASES["mlp"]
    model = make()
    plan = plan_of(model, 7)
    expected = Predictor(compiled_plan(model.bundle)).predict(rows_of(SEEDS))
    now = [0.0]
    with (
        running_redis() as server,
        closing(opened(server.url)) as other,
        closing(
            Cache(opened(server.url, overlap_bytes=1 << 20).config, clock=lambda: now[0])
        ) as cache,
    ):
        Predictor(compiled_plan(model.bundle, plan), cache=other).predict(rows_of(WARMED))
        predictor = Predictor(compiled_plan(model.bundle, plan), cache=cache)
        stream = predictor.stream(chunks(rows_of, SEEDS, 6))
        asked = server.count("mget")
        made = [next(stream)]
        # The first batch, and the one that was read ahead.
        wait_until(lambda: server.count("mget") >= asked + 2)
        purge = other.purge(sleep=lambda seconds: now.__setitem__(0, now[0] + seconds))
        purged = purge.rows(
            identities_of_rows(model.bundle, {"x": rows_of(SEEDS)["x"].to_pylist()})
        )
        assert purged.entries >= len(WARMED)
        assert purged.left == 0
        made += list(stream)
        stats = predictor.drain()
        assert all(
            bits_of(pa.concat_arrays([outputs[name] for _, outputs in made])) == bits_of(column)
            for name, column in expected.items()
        )
        output = stats.stages["output"]
        assert output.hits + output.computed == len(SEEDS)
        assert output.hits > 0
        assert stats.cache_errors[ERASED] > 0
        assert hits(model, opened(server.url)) == 0
