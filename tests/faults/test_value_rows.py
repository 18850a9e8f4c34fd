"""Rows of the matrix of bad input that need no Spark: odd values in, odd results, odd entries."""

from __future__ import annotations

import threading
from contextlib import closing

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvspark.cache.cache import Cache
from kvspark.infer.predict.predictor import Predictor
from kvspark.infer.resolve.compiled_plan import compiled_plan
from kvspark.infer.rows.columns import column
from kvspark.spec import STRING, TensorSpec
from tests.faults import case, models
from tests.faults.conftest import Fired
from tests.faults.matrix import covers
from tests.faults.staging import staged
from tests.redis_server import PATIENT_MS

TEXT = TensorSpec("text", STRING, ())


@covers("B8")
def test_nan_and_infinities_in_results_come_back_from_the_cache_bit_for_bit(fired: Fired) -> None:
    rows = np.arange(40 * 8, dtype="float32").reshape(40, 8)
    arrays = {"x": pa.array(list(rows), pa.list_(pa.float32()))}
    cache = Cache.connect("memory://nan", namespace="faults")
    bits = []
    for store in (None, cache, cache):
        predictor = Predictor(
            compiled_plan(models.function_model(models.with_nan).bundle), cache=store
        )
        made = predictor.predict(arrays)["y"].flatten().to_numpy()
        bits.append(made.tobytes())
        hits = predictor.drain().stages["output"].hits
    fired("B8", int(np.isnan(made).sum()))
    assert hits == 40
    assert bits[0] == bits[1] == bits[2]


def content(texts: list[str]) -> list[bytes]:
    """The bytes of each text that go into its key."""
    return column(pa.array(texts, pa.string()), TEXT).row_bytes()


@covers("B13")
@given(st.lists(st.text(), min_size=2, max_size=8))
def test_texts_have_equal_bytes_if_they_are_equal(texts: list[str]) -> None:
    made = content(texts)
    assert [a == b for a in made for b in made] == [a == b for a in texts for b in texts]


@covers("B13")
def test_normal_forms_stay_apart_and_what_is_no_text_is_shown_as_such(fired: Fired) -> None:
    texts = ["é", "e\u0301", "\N{GRINNING FACE}", "a\0b", "a", ""]
    fired("B13", len(texts))
    assert len(set(content(texts))) == len(texts)
    # Parquet written elsewhere may hold what no Python string does: a lone surrogate.
    lone = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\3\0\0\0"), pa.py_buffer(b"\xed\xa0\x80")]
    )
    texts_of_lone = column(lone, TEXT)
    assert set(texts_of_lone.argument()[0]) == {"\N{REPLACEMENT CHARACTER}"}
    assert texts_of_lone.row_bytes() != content(texts_of_lone.argument())


@covers("B17")
@pytest.mark.redis
def test_a_list_where_a_value_should_be_is_a_miss_and_is_replaced(fired: Fired) -> None:
    with (
        staged() as staging,
        closing(case.connected(staging.server.url, timeout_ms=PATIENT_MS)) as cache,
    ):
        row, _ = case.known_row(staging.server.url)
        key = "for _, key in ipairs(redis.call('KEYS', '*')) do redis.call('DEL', key) "
        staging.ask("EVAL", f"{key} redis.call('LPUSH', key, 'pickle') end", "0")
        fired("B17", staging.info("keyspace", "db0:keys="))
        assert not row.found(cache)
        assert row.store(cache) > 0
        assert row.found(cache)
        assert cache.drain().errors == {}


@covers("F37")
@pytest.mark.redis
def test_two_tasks_that_compute_the_same_rows_at_a_time_write_the_same_entries(
    fired: Fired,
) -> None:
    """As two attempts of one task do under speculation."""
    off = case.without_cache()
    ran: list[case.Ran] = []
    with staged() as staging:
        staging.ask("FLUSHALL")

        def attempt() -> None:
            with closing(case.connected(staging.server.url, timeout_ms=PATIENT_MS)) as cache:
                ran.append(case.run(cache))

        attempts = [threading.Thread(target=attempt) for _ in range(2)]
        for each in attempts:
            each.start()
        for each in attempts:
            each.join()
        with closing(case.connected(staging.server.url, timeout_ms=PATIENT_MS)) as cache:
            after = case.run(cache)
    fired("F37", sum(each.stats.stages["output"].computed > 0 for each in ran))
    assert [each.output.equals(off.output) for each in (*ran, after)] == [True] * 3
    assert after.stats.stages["output"].hits == after.stats.rows
