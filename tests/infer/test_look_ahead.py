"""A predictor that reads and looks up ahead: the bits, the counts, the bound and the end of a stream."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Iterator
from contextlib import closing

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvspark.cache.cache import Cache
from kvspark.infer.predict.predictor import Predictor
from kvspark.infer.resolve.compiled_plan import compiled_plan
from kvspark.plan.plan import Plan, StagePlan
from kvspark.stats import RunStats
from tests.faults.proxy import FaultProxy
from tests.faults.wire import Close, Flip, Nothing, Reset, Swap
from tests.infer.test_exactness import CASES, bits_of, plan_of, seed_lists
from tests.redis_cluster import running_cluster, wait_until
from tests.redis_server import PATIENT_MS, RedisAddress, running_redis

pytestmark = pytest.mark.redis

SEEDS = list(range(60))
FAULTS = {
    "none": Nothing,
    "flip": lambda: Flip(0.5),
    "swap": Swap,
    "reset": Reset,
    "close": Close,
}


@pytest.fixture(scope="module")
def server() -> Iterator[RedisAddress]:
    with running_redis() as server:
        yield server


def opened(url: str, namespace: str = "n", **options: object) -> Cache:
    plain = Cache.connect(url, namespace=namespace, timeout_ms=PATIENT_MS)
    return Cache.from_config(plain.config.model_copy(update=options))


def chunks(rows_of, seeds: list[int], size: int):
    return ((at, rows_of(seeds[at : at + size])) for at in range(0, len(seeds), size))


def threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "kvspark-overlap"]


@pytest.mark.parametrize("case", ["towers", "tokens"])
@settings(deadline=None, max_examples=15)
@given(
    seeds=seed_lists,
    warmed=seed_lists,
    bits=st.integers(0, 7),
    size=st.integers(1, 20),
    overlap_bytes=st.sampled_from([1, 2_000, 1 << 20]),
    fault=st.sampled_from(sorted(FAULTS)),
    first=st.integers(0, 8),
)
def test_any_hits_batches_and_faults_give_the_bits_of_the_run_without_a_cache(
    server, case, *, seeds, warmed, bits, size, overlap_bytes, fault, first
) -> None:
    make, rows_of = CASES[case]
    model = make()
    expected = Predictor(compiled_plan(model.bundle)).predict(rows_of(seeds))
    server.ask("FLUSHALL")
    with closing(opened(server.url)) as cache:
        Predictor(compiled_plan(model.bundle, plan_of(model, bits)), cache=cache).predict(
            rows_of(warmed)
        )
    with (
        FaultProxy(server.port, FAULTS[fault](), first=first, times=2) as proxy,
        closing(opened(proxy.url, overlap_bytes=overlap_bytes)) as cache,
    ):
        predictor = Predictor(compiled_plan(model.bundle, plan_of(model, bits)), cache=cache)
        made = [outputs for _, outputs in predictor.stream(chunks(rows_of, seeds, size))]
    for spec in model.outputs:
        got = pa.concat_arrays([outputs[spec.name] for outputs in made])
        assert bits_of(got) == bits_of(expected[spec.name])


def test_the_counts_are_those_of_a_run_that_looks_up_in_turn(server) -> None:
    make, rows_of = CASES["mlp"]
    model = make()
    # Each row three times, in other batches: once it is pending, once it was computed meanwhile.
    seeds = [seed for part in (0, 20, 40) for seed in 3 * SEEDS[part : part + 20]]
    ran: list[RunStats] = []
    for ahead in (None, 1, 1 << 20):
        server.ask("FLUSHALL")
        with closing(opened(server.url)) as cache:
            known = {"x": rows_of(SEEDS[::4])["x"]}
            Predictor(compiled_plan(model.bundle, plan_of(model, 7)), cache=cache).predict(known)
        with closing(opened(server.url, overlap_bytes=ahead)) as cache:
            predictor = Predictor(compiled_plan(model.bundle, plan_of(model, 7)), cache=cache)
            list(predictor.stream(chunks(rows_of, seeds, 7)))
            ran.append(predictor.drain())
    for each in ran:
        output = each.stages["output"]
        assert (output.computed, output.hits + output.duplicates) == (45, 180 - 45)
        for count in ("rows", "lookups", "hits", "duplicates", "computed", "bytes_written"):
            assert getattr(output, count) == getattr(ran[0].stages["output"], count), count
        assert each.degraded == frozenset()


def test_rows_of_batches_that_are_read_ahead_come_over_a_connection_of_their_own(server) -> None:
    make, rows_of = CASES["mlp"]
    model = make()
    for ahead, connections in ((None, 1), (1 << 20, 2)):
        server.ask("FLUSHALL")
        with closing(opened(server.url, overlap_bytes=ahead)) as cache:
            predictor = Predictor(compiled_plan(model.bundle, plan_of(model, 7)), cache=cache)
            predictor.predict(rows_of(SEEDS))
            asked = server.count("mget")

            def patient(asked: int = asked):
                for number, batch in enumerate(chunks(rows_of, SEEDS, 7)):
                    # The one before it was looked up, by the thread where that was asked.
                    least = asked + (number if number > 1 else 0)
                    wait_until(lambda: server.count("mget") >= least)  # noqa: B023 - at once
                    yield batch

            list(predictor.stream(patient()))
            assert server.ask("CLIENT", "LIST").count(b"cmd=mget") == connections


def test_a_share_is_looked_up_as_ever(server) -> None:
    make, rows_of = CASES["mlp"]
    model = make()
    ran: list[RunStats] = []
    stages = {"output": StagePlan(True, share=0.5), "trunk": StagePlan(False)}
    for ahead in (None, 1 << 20):
        server.ask("FLUSHALL")
        with closing(opened(server.url, overlap_bytes=ahead)) as cache:
            for _ in range(2):
                plan = Plan(stages, max_pending_rows=16)
                predictor = Predictor(compiled_plan(model.bundle, plan), cache=cache)
                list(predictor.stream(chunks(rows_of, SEEDS, 7)))
                ran.append(predictor.drain())
    for old, new in zip(ran[:2], ran[2:], strict=True):
        for count in ("lookups", "hits", "computed", "turned_away"):
            assert getattr(new.stages["output"], count) == getattr(old.stages["output"], count)


@pytest.mark.parametrize(("max_bytes", "most"), [(None, 1), (1, 2), (1 << 20, 2)])
def test_one_batch_is_read_ahead(server, max_bytes, most) -> None:
    make, rows_of = CASES["mlp"]
    model = make()
    with closing(opened(server.url, "bound", overlap_bytes=max_bytes)) as cache:
        plan = plan_of(model, 7)
        Predictor(compiled_plan(model.bundle, plan), cache=cache).predict(rows_of(SEEDS))
        read: list[int] = []

        def batches():
            for at in range(60):
                read.append(at)
                yield at, rows_of([at] * 10)

        stream = Predictor(compiled_plan(model.bundle, plan), cache=cache).stream(batches())
        assert max(len(read) - tag for tag, _ in stream) == most


@pytest.mark.parametrize("max_bytes", [None, 1, 1 << 20])
def test_an_input_that_fails_does_so_after_the_batches_before_it(server, max_bytes) -> None:
    make, rows_of = CASES["mlp"]
    model = make()

    def batches():
        yield from chunks(rows_of, SEEDS[:21], 7)
        raise LookupError("the input is gone")

    with closing(opened(server.url, "fails", overlap_bytes=max_bytes)) as cache:
        Predictor(compiled_plan(model.bundle, plan_of(model, 7)), cache=cache).predict(
            rows_of(SEEDS)
        )
        stream = Predictor(compiled_plan(model.bundle, plan_of(model, 7)), cache=cache).stream(
            batches()
        )
        assert [next(stream)[0] for _ in range(3)] == [0, 7, 14]
        with pytest.raises(LookupError, match="the input is gone"):
            next(stream)


def test_a_stream_that_is_closed_leaves_no_thread_that_reads(server) -> None:
    make, rows_of = CASES["mlp"]
    model = make()
    with closing(opened(server.url, "closed", overlap_bytes=1 << 20)) as cache:
        predictor = Predictor(compiled_plan(model.bundle, plan_of(model, 7)), cache=cache)
        predictor.predict(rows_of(SEEDS))
        stream = predictor.stream(chunks(rows_of, SEEDS, 2))
        assert isinstance(stream, Generator)
        next(stream)
        stream.close()
        gets = server.count("mget")
        for thread in threads():  # it has nothing to do but to end
            thread.join(PATIENT_MS / 1_000)
        assert not threads()
        assert server.count("mget") == gets
        # The next stream of the same predictor begins anew.
        assert len(list(predictor.stream(chunks(rows_of, SEEDS, 2)))) == 30


def test_a_forked_child_and_its_parent_both_go_on(server) -> None:
    make, rows_of = CASES["mlp"]
    model = make()
    with closing(opened(server.url, "forked", overlap_bytes=1 << 20)) as cache:
        predictor = Predictor(compiled_plan(model.bundle, plan_of(model, 7)), cache=cache)
        predictor.predict(rows_of(SEEDS))
        stream = predictor.stream(chunks(rows_of, SEEDS, 2))
        next(stream)
        pid = os.fork()
        if pid == 0:  # the child: leave without pytest's own end
            is_right = False
            try:
                is_right = len(list(stream)) == 29
            finally:
                os._exit(0 if is_right else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert len(list(stream)) == 29


def test_a_cluster_is_looked_up_ahead_over_connections_of_their_own() -> None:
    make, rows_of = CASES["mlp"]
    model = make()
    expected = Predictor(compiled_plan(model.bundle)).predict(rows_of(SEEDS))
    with running_cluster(2) as cluster:
        with closing(opened(cluster.url, overlap_bytes=1 << 20)) as cache:
            plan = plan_of(model, 7)
            Predictor(compiled_plan(model.bundle, plan), cache=cache).predict(rows_of(SEEDS))
            predictor = Predictor(compiled_plan(model.bundle, plan), cache=cache)
            made = [outputs for _, outputs in predictor.stream(chunks(rows_of, SEEDS, 20))]
            for node in cluster.nodes:
                assert node.ask("CLIENT", "LIST").count(b"cmd=mget") == 2
        stats = predictor.drain()
    assert (stats.stages["output"].hits, stats.degraded) == (len(SEEDS), frozenset())
    for spec in model.outputs:
        got = pa.concat_arrays([outputs[spec.name] for outputs in made])
        assert bits_of(got) == bits_of(expected[spec.name])


def test_a_model_that_fails_leaves_the_next_stream_as_it_would_be(server, monkeypatch) -> None:
    make, rows_of = CASES["mlp"]
    model = make()
    with closing(opened(server.url, "broken", overlap_bytes=1 << 20)) as cache:
        predictor = Predictor(compiled_plan(model.bundle, plan_of(model, 7)), cache=cache)
        with monkeypatch.context() as patch:

            def fail(*args: object, **kwargs: object) -> None:
                raise LookupError("the model is broken")

            patch.setattr(predictor.resolver.computations, "run", fail)
            with pytest.raises(LookupError, match="the model is broken"):
                list(predictor.stream(chunks(rows_of, SEEDS, 2)))
        made = [outputs for _, outputs in predictor.stream(chunks(rows_of, SEEDS, 2))]
        for thread in threads():
            thread.join(PATIENT_MS / 1_000)
        assert not threads()
    expected = Predictor(compiled_plan(model.bundle)).predict(rows_of(SEEDS))
    for spec in model.outputs:
        got = pa.concat_arrays([outputs[spec.name] for outputs in made])
        assert bits_of(got) == bits_of(expected[spec.name])


def test_a_store_with_one_connection_is_not_looked_up_ahead(server) -> None:
    make, rows_of = CASES["mlp"]
    model = make()
    for url, l1_bytes in (("memory://", None), (server.url, 1 << 20)):
        with closing(opened(url, overlap_bytes=1 << 20, l1_bytes=l1_bytes)) as cache:
            predictor = Predictor(compiled_plan(model.bundle, plan_of(model, 7)), cache=cache)
            assert predictor.resolver.entries["output"].ahead is None
            assert len(list(predictor.stream(chunks(rows_of, SEEDS, 7)))) == 9
    assert opened(server.url).overlap() is None
