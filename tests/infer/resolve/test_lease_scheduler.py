"""Rows that are dear are computed by one worker of all that lack them; whatever happens, to the same bits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvspark.cache.cache import Cache
from kvspark.cache.stage.lease import RowLeases
from kvspark.errors import RowError
from kvspark.infer.compute.values import Values
from kvspark.infer.model import Model
from kvspark.infer.predict.predictor import Predictor
from kvspark.infer.resolve.backoff import Patience
from kvspark.infer.resolve.compiled_plan import compiled_plan
from kvspark.infer.resolve.lease_scheduler import IN_VAIN_S, Sharing
from kvspark.plan.plan import Plan, StagePlan
from kvspark.spec import MicroBatch, TensorSpec
from tests import callables
from tests.infer.sharing_process import (
    CALL,
    SHARED,
    checksum,
    config,
    learned,
    model,
    rows,
)
from tests.infer.test_exactness import CASES, bits_of, plan_of
from tests.redis_server import RedisAddress, running_redis

NAMES = count()
DROP_ENTRIES = "for _, k in ipairs(redis.call('KEYS', 'k1s*')) do redis.call('DEL', k) end"
DROP_LEASES = DROP_ENTRIES.replace("k1s", "k1l")
CALL_S = "KVSPARK_TEST_CALL_S"
EXPECTED = checksum(Predictor(compiled_plan(model().bundle)).predict(rows()))


class Clock:
    """A time that passes while somebody sleeps or computes."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


class Elsewhere(RowLeases):
    """All rows are somebody else's, who never computes them."""

    from_s = 0.001

    def claim(self, digests: Any, *, ttl_s: float) -> Any:
        return np.zeros(len(digests), dtype=np.bool_)


@given(
    bound_s=st.floats(0, 100),
    chances=st.lists(st.floats(0, 1), min_size=1, max_size=20),
    looks_s=st.lists(st.floats(0, 0.1), min_size=1, max_size=20),
)
def test_nobody_waits_for_longer_than_the_bound(bound_s, chances, looks_s):
    turn = count()
    patience = Patience(bound_s, chance=lambda: chances[next(turn) % len(chances)])
    pauses_s = 0.0
    for step in range(100_000):
        pause_s = patience.pause_s()
        if pause_s is None:
            break
        assert 0 < pause_s <= 0.08
        pauses_s += pause_s
        patience.waited(pause_s + looks_s[step % len(looks_s)])
    else:
        pytest.fail("it never ends")
    assert pauses_s <= bound_s * (1 + 1e-9)


@given(call_s=st.floats(0.04, 3.0), sizes=st.lists(st.integers(1, 200), min_size=1, max_size=4))
def test_rows_that_never_come_are_waited_for_as_long_as_computing_takes(call_s, sizes):
    clock = Clock()
    entries = Cache.connect(f"memory://sharing-{next(NAMES)}", namespace="n").keyspace(
        b"stage", (TensorSpec("y", "float32", ()),)
    )
    sharing = Sharing(entries, Elsewhere(), Values, clock=clock, sleep=clock.sleep)
    for _ in range(2):
        sharing.pace.measured(0, call_s)
    done: list[np.ndarray] = []

    def compute(part: Any) -> tuple[Values, float]:
        done.append(part)
        return Values((part.astype("<f4"),)), call_s

    total_s = 0.0
    for size in sizes:
        keys = entries.digests([b"%d" % row for row in range(size)])
        begun_s = clock.now_s
        share = sharing.share([(0, 32, np.arange(size))], keys, compute)
        waited_s = clock.now_s - begun_s
        assert waited_s <= -(-size // 32) * call_s * (1 + 1e-9)
        assert sorted(np.concatenate(done)) == list(range(size))
        assert share.stats.leased == 0
        assert waited_s == pytest.approx(share.stats.seconds_waited)
        total_s += waited_s
        done.clear()
    # One wait may end above what may be waited in vain; after it nobody waits.
    assert total_s <= IN_VAIN_S * 1.1 + max(-(-size // 32) for size in sizes) * call_s


@pytest.fixture
def server() -> Iterator[RedisAddress]:
    with running_redis() as server:
        yield server


@contextmanager
def worker(
    server: RedisAddress, call_s: float, from_ms: float, *options: str
) -> Iterator[subprocess.Popen[str]]:
    """Another process, gone at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.infer.sharing_process", server.url, str(from_ms), *options],
        env={**os.environ, CALL_S: str(call_s)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> str:
    """The next line of a worker."""
    assert process.stdout is not None
    return process.stdout.readline()


def start(process: subprocess.Popen[str]) -> None:
    """Makes a worker that is ready begin."""
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def leases(server: RedisAddress) -> int:
    return server.ask("KEYS", "k1l*").count(b"k1l")


@pytest.mark.redis
@pytest.mark.parametrize("is_flushed", [False, True], ids=["kept", "flushed"])
def test_two_workers_compute_each_dear_row_once(server, is_flushed):
    with worker(server, 0.3, 3.0) as one, worker(server, 0.3, 3.0) as two:
        assert said(one) == said(two) == "ready\n"
        for process in (one, two):
            start(process)
        flushes = 0
        while is_flushed and flushes < 4:
            time.sleep(0.25)
            server.ask("FLUSHALL")
            flushes += 1
        told = [json.loads(said(process)) for process in (one, two)]
    assert [each["made"] for each in told] == [EXPECTED, EXPECTED]
    assert [each["errors"] for each in told] == [{}, {}]
    computed = sum(each["computed"] for each in told)
    assert computed + sum(each["leased"] for each in told) == 2 * SHARED
    # 256 if nobody gives up: each waits for up to a second for what the other computes in 0.3.
    assert SHARED <= computed <= (2 * SHARED if is_flushed else SHARED + 2 * CALL)


@pytest.mark.redis
def test_the_rows_of_a_worker_that_is_killed_are_computed(server, monkeypatch):
    # A worker that has measured nothing yet: its leases live for ten seconds.
    with worker(server, 600.0, 0.0, "fresh") as holder:
        assert said(holder) == "ready\n"
        start(holder)
        monkeypatch.setenv(CALL_S, "0.1")
        predictor = learned(Cache.from_config(config(server.url, 1.0)))
        while not leases(server):
            time.sleep(0.01)
        holder.kill()
        holder.wait()
    made = checksum(predictor.predict(rows()))
    stage = predictor.drain().stages["output"]
    assert made == EXPECTED
    assert (stage.computed, stage.leased) == (SHARED, 0)
    assert stage.seconds_waited > 0


@pytest.mark.redis
@pytest.mark.parametrize("from_ms", [1_000.0, None])
def test_rows_that_are_cheap_take_no_leases(server, from_ms):
    predictor = Predictor(
        compiled_plan(model().bundle), cache=Cache.from_config(config(server.url, from_ms))
    )
    predictor.predict(rows())
    assert leases(server) == 0
    assert server.count("set") == SHARED
    predictor = Predictor(
        compiled_plan(model().bundle), cache=Cache.from_config(config(server.url, 0.0))
    )
    predictor.predict(rows(seed=2))
    assert leases(server) == SHARED
    assert server.count("set") == 3 * SHARED


@pytest.mark.redis
def test_a_row_that_was_inserted_meanwhile_is_not_computed(server, monkeypatch):
    monkeypatch.setenv(CALL_S, "0.01")
    predictor = learned(Cache.from_config(config(server.url, 0.0)))
    other = learned(Cache.from_config(config(server.url, None)), seed=5)
    batches = iter([(0, rows(10)), (1, rows(10, seed=7))])

    def both() -> Iterator[Any]:
        yield next(batches)
        # Now the first batch was looked up, and waits for more rows.
        other.predict(rows(10))
        server.ask("EVAL", DROP_LEASES, "0")
        yield next(batches)

    made = [checksum(outputs) for _, outputs in predictor.stream(both())]
    stage = predictor.drain().stages["output"]
    assert (stage.leased, stage.computed, stage.hits) == (10, 10, 0)
    plain = Predictor(compiled_plan(model().bundle))
    assert made == [checksum(plain.predict(rows(10))), checksum(plain.predict(rows(10, seed=7)))]


def test_a_store_without_leases_gives_none():
    cache = Cache.from_config(config("memory://", 0.0))
    assert cache.keyspace(b"stage", (TensorSpec("y", "float32", ()),)).leases is None


@pytest.mark.redis
def test_there_are_no_leases_unless_they_are_asked_for(server):
    cache = Cache.connect(server.url, namespace="n", timeout_ms=2_000)
    assert cache.keyspace(b"stage", (TensorSpec("y", "float32", ()),)).leases is None
    learned(cache)
    assert leases(server) == 0


@pytest.mark.redis
def test_a_store_that_is_away_leaves_all_rows_to_who_asks(server):
    cache = Cache.from_config(config(server.url, 0.0))
    space = cache.keyspace(b"stage", (TensorSpec("y", "float32", ()),))
    leases_of_rows = space.leases
    assert leases_of_rows is not None
    digests = space.digests([b"a", b"b"])
    assert leases_of_rows.claim(digests, ttl_s=60).all()
    assert not leases_of_rows.claim(digests, ttl_s=60).any()
    server.signal(signal.SIGKILL)
    assert leases_of_rows.claim(digests, ttl_s=60).all()
    assert cache.drain().errors
    predictor = Predictor(compiled_plan(model().bundle), cache=cache)
    assert checksum(predictor.predict(rows())) == EXPECTED


@pytest.mark.redis
@pytest.mark.parametrize("row", [0, 3, 70])
def test_a_bad_row_is_named_by_its_place_where_others_have_taken_rows(server, row):
    strict = Model.from_callable(
        callables.strict,
        fingerprint="v1",
        inputs=[TensorSpec("x", "float32", (4,))],
        outputs=[TensorSpec("y", "float32", (4,))],
        micro_batch=MicroBatch(rows=CALL),
    )
    x = np.abs(np.random.default_rng(4).normal(size=(3 * CALL, 4))).astype("float32")
    x[row] *= -1
    # Each second row is known: the rows that are left have other places among themselves.
    for each in (x[1::2], x):
        predictor = Predictor(
            compiled_plan(strict.bundle), cache=Cache.from_config(config(server.url, 0.0))
        )
        columns = {"x": pa.array(each.tolist(), pa.list_(pa.float32()))}
        if (each >= 0).all():
            predictor.predict(columns)
            continue
        with pytest.raises(RowError) as caught:
            predictor.predict(columns)
        assert caught.value.row == (row if len(each) == len(x) else row // 2)


@pytest.mark.redis
def test_rows_that_are_never_stored_are_not_claimed(server):
    plan = Plan({"output": StagePlan(cached=True, share=0.5)})
    cache = Cache.from_config(config(server.url, 0.0))
    predictor = Predictor(compiled_plan(model().bundle, plan), cache=cache)
    assert checksum(predictor.predict(rows())) == EXPECTED
    stored = server.ask("KEYS", "k1s*").count(b"k1s")
    assert 0 < leases(server) == stored < SHARED


@pytest.fixture(scope="module")
def shared_server() -> Iterator[RedisAddress]:
    with running_redis() as server:
        yield server


@pytest.mark.redis
@pytest.mark.parametrize("case", ["towers", "tokens"])
@settings(max_examples=10)
@given(
    seeds=st.lists(st.integers(0, 60), min_size=1, max_size=40),
    known=st.lists(st.integers(0, 60), max_size=20),
    taken=st.lists(st.integers(0, 60), max_size=20),
    bits=st.integers(0, 7),
)
def test_any_pattern_of_leases_gives_the_bits_of_the_run_without_a_cache(
    shared_server, case, seeds, known, taken, bits
):
    make, rows_of = CASES[case]
    bundle, plan = make().bundle, plan_of(make(), bits)
    name = f"pattern-{next(NAMES)}"
    cache = Cache.from_config(config(shared_server.url, 0.0).model_copy(update={"namespace": name}))
    if taken:  # by somebody who is gone, and whose entries are gone as well
        Predictor(compiled_plan(bundle, plan), cache=cache).predict(rows_of(taken))
        shared_server.ask("EVAL", DROP_ENTRIES, "0")
    if known:
        Predictor(compiled_plan(bundle, plan), cache=cache).predict(rows_of(known))
    predictor = Predictor(compiled_plan(bundle, plan), cache=cache)
    made = predictor.predict(rows_of(seeds))
    expected = Predictor(compiled_plan(bundle)).predict(rows_of(seeds))
    for output, array in expected.items():
        assert bits_of(made[output]) == bits_of(array)
    assert predictor.drain().cache_errors == {}
