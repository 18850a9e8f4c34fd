"""A predictor that looks up ahead at the stages before the last one: a re-trained head's trunk."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing

import numpy as np
import pytest

from kvspark.cache.cache import Cache
from kvspark.cache.look_ahead import Ahead, AheadEntries
from kvspark.infer.plan import Plan, StagePlan
from kvspark.infer.predictor import Predictor
from kvspark.spec import TensorSpec
from kvspark.stats import RunStats, StageStats
from tests.cache.strategies import same_bits
from tests.infer.test_exactness import CASES
from tests.infer.test_look_ahead import SEEDS, chunks, opened, threads
from tests.redis_cluster import wait_until
from tests.redis_server import PATIENT_MS, RedisAddress, running_redis

pytestmark = pytest.mark.redis

HEAD = StagePlan(False)
COUNTS = ("rows", "lookups", "hits", "duplicates", "computed", "bytes_read", "bytes_written")


@pytest.fixture(scope="module")
def server() -> Iterator[RedisAddress]:
    with running_redis() as server:
        yield server


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Ahead]:
    """All that is asked for ahead."""
    made: list[Ahead] = []
    ask = AheadEntries.ahead

    def noting(entries: AheadEntries, digests: Sequence[bytes]) -> Ahead:
        made.append(ask(entries, digests))
        return made[-1]

    monkeypatch.setattr(AheadEntries, "ahead", noting)
    return made


def predictor(cache: Cache, head: StagePlan, *, pending: int = 64) -> Predictor:
    plan = Plan({"trunk": StagePlan(True), "output": head}, max_pending_rows=pending)
    return Predictor(CASES["mlp"][0]().bundle, plan=plan, cache=cache)


def warm_trunk(server: RedisAddress, seeds: list[int]) -> None:
    """Leaves the trunk of these rows in the store, and nothing of the head."""
    server.ask("FLUSHALL")
    with closing(opened(server.url)) as cache:
        predictor(cache, StagePlan(False)).predict(CASES["mlp"][1](seeds))


def ran(server: RedisAddress, head: StagePlan, seeds: list[int], ahead: int | None) -> RunStats:
    """What a stream over `seeds`, 7 rows a batch, says of itself; nothing stays asked for."""
    with closing(opened(server.url, look_ahead_bytes=ahead)) as cache:
        made = predictor(cache, head)
        expected = Predictor(made.bundle).predict(CASES["mlp"][1](seeds))
        got = [outputs for _, outputs in made.stream(chunks(CASES["mlp"][1], seeds, 7))]
        for name, whole in expected.items():
            assert [
                row for outputs in got for row in outputs[name].to_pylist()
            ] == whole.to_pylist()
        entries = made.resolver.entries["trunk"]
        assert not isinstance(entries, AheadEntries) or entries.asked == []
        return made.drain()


def test_what_was_asked_for_is_asked_once_and_given_in_any_order(server):
    server.ask("FLUSHALL")
    with closing(opened(server.url, look_ahead_bytes=1 << 20)) as cache:
        space, ahead = cache.keyspace(b"s", (TensorSpec("t", "float32", (3,)),)), cache.look_ahead()
        assert ahead is not None
        entries = AheadEntries(space, ahead.guarding(space), ahead, row_bytes=12)
        digests = space.digests([b"%d" % row for row in range(40)])
        rows = np.arange(120, dtype="<f4").reshape(40, 3)
        space.insert(digests[:36], (rows[:36],), cost_us=1)
        asked = [entries.ahead(digests[:20]), entries.ahead(digests[20:])]
        wait_until(lambda: all(each.found for each in asked))

        def looked_up(places: list[int]) -> tuple[list[bool], np.ndarray, int]:
            """What is found, and how many look-ups the server has seen for it."""
            before = server.count("mget")
            lookup = entries.lookup_ahead([digests[place] for place in places])
            found = np.array(lookup.columns[0])
            np.asarray(lookup.columns[0])[:] = 0  # as a caller may
            return lookup.found.tolist(), found, server.count("mget") - before

        for places in ([25, 3, 38, 7, 21], [19, 18, 17], [0]):
            found, values, looks = looked_up(places)
            assert (found, looks) == ([place < 36 for place in places], 0)
            assert same_bits(rows[[place for place in places if place < 36]], values)
        # All that one look-up has found is given once; afterwards it is looked up again.
        for looks in (0, 1):
            found, values, seen = looked_up([*range(20)])
            assert (all(found), seen) == (True, looks)
            assert same_bits(rows[:20], values)
        found, values, looks = looked_up([2, 30])
        assert (found, looks) == ([True, True], 1)
        assert same_bits(rows[[2, 30]], values)
        asked[1].forget()
        assert looked_up([30])[2] == 1


@pytest.mark.parametrize("pending", [7, 64], ids=["a batch", "batches together"])
def test_the_trunk_of_a_new_head_comes_over_a_connection_of_its_own(server, pending, asked):
    warm_trunk(server, SEEDS)
    with closing(opened(server.url, look_ahead_bytes=1 << 20)) as cache:
        made = predictor(cache, HEAD, pending=pending)
        list(made.stream(chunks(CASES["mlp"][1], SEEDS, 7)))
        clients = server.ask("CLIENT", "LIST")
        assert clients.count(b"cmd=mget") + clients.count(b"cmd=set ") == 2
        trunk = made.drain().stages["trunk"]
    # The first batch is read when it is wanted; all others are ahead of it.
    assert [len(each.digests) for each in asked] == [7] * 7 + [4]
    assert all(each.is_wanted for each in asked)
    assert (trunk.hits, trunk.computed) == (60, 0)


@pytest.mark.parametrize("warmed", [[], SEEDS[::4], SEEDS], ids=["nothing", "some", "all"])
def test_the_counts_are_those_of_a_run_that_looks_up_in_turn(server, warmed):
    # Each row three times, in other batches: once it is pending, once it was computed meanwhile.
    seeds = [seed for part in (0, 20, 40) for seed in 3 * SEEDS[part : part + 20]]
    stages: list[StageStats] = []
    for ahead in (None, 1 << 10, 1 << 20):
        warm_trunk(server, warmed) if warmed else server.ask("FLUSHALL")
        stats = ran(server, HEAD, seeds, ahead)
        assert stats.degraded == frozenset()
        stages.append(stats.stages["trunk"])
    for each in stages:
        for count in COUNTS:
            assert getattr(each, count) == getattr(stages[0], count), count
    assert stages[0].hits >= len(warmed)


def test_results_that_are_more_than_may_be_held_are_looked_up_in_their_turn(server, asked):
    warm_trunk(server, SEEDS)
    assert ran(server, HEAD, SEEDS, 1).stages["trunk"].hits == 60
    assert asked == []


def test_a_stream_that_is_closed_forgets_what_waits_to_be_computed(server, asked):
    warm_trunk(server, SEEDS)
    with closing(opened(server.url, look_ahead_bytes=1 << 20)) as cache:
        made = predictor(cache, HEAD, pending=21)
        stream = made.stream(chunks(CASES["mlp"][1], SEEDS, 2))
        assert isinstance(stream, Generator)
        next(stream)
        assert asked
        stream.close()
        assert all(each.is_over for each in asked)
        for thread in threads():
            thread.join(PATIENT_MS / 1_000)
        assert not threads()


def test_what_was_found_is_let_go_when_its_rows_were_computed(server, asked):
    warm_trunk(server, SEEDS)
    with closing(opened(server.url, look_ahead_bytes=1 << 20)) as cache:
        made = predictor(cache, HEAD, pending=14)
        for start, _ in made.stream(chunks(CASES["mlp"][1], SEEDS, 7)):
            # The first batch is not ahead; two are computed together.
            done = start // 14 * 2 + 1
            assert all(each.is_over for each in asked[:done])
            assert all(each.found is None for each in asked[:done])


def test_towers_are_not_looked_up_ahead_because_a_worker_still_has_them(server, asked):
    make, rows_of = CASES["towers"]
    server.ask("FLUSHALL")
    plan = Plan({"user": StagePlan(True), "item": StagePlan(True), "output": StagePlan(False)})
    with closing(opened(server.url, look_ahead_bytes=1 << 20)) as cache:
        made = Predictor(make().bundle, plan=plan, cache=cache)
        list(made.stream(chunks(rows_of, SEEDS, 7)))
    assert asked == []
