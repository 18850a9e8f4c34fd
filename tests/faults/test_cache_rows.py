"""Whatever happens to the store: the output of a run without a cache, and few calls that waited."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from kvspark.cache.cache import Cache
from kvspark.store import windows as cache_windows
from kvspark.store.breaker import FAILURES
from tests.faults import case
from tests.faults.cache_rows import CACHE_ROWS, CacheRow
from tests.faults.case import known_row
from tests.faults.conftest import Fired
from tests.faults.matrix import covers
from tests.faults.staging import staged
from tests.faults.wire import Call, Cut, Flip, Twice
from tests.redis_server import PATIENT_MS

pytestmark = [pytest.mark.redis, pytest.mark.slow]

START, MIDDLE = 0.0, 0.5


@pytest.fixture(scope="module", autouse=True)
def windows() -> Iterator[None]:
    """Several windows a look-up, as large batches have, with two of them on their way.

    The ten known rows of a batch as well: F13 exchanges two answers with values in them.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache_windows, "WINDOW_KEYS", 4)
        yield


@pytest.fixture(scope="module")
def commands() -> int:
    """How many commands a healthy run sends; all that it is compared with is right."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(case.PASSWORD_ENV, case.PASSWORD)
        with (
            staged() as staging,
            closing(case.connected(staging.proxy.url, timeout_ms=PATIENT_MS)) as cache,
        ):
            ran = case.run(cache)
            assert ran.output.equals(case.without_cache().output)
            assert (ran.stats.degraded, ran.stats.cache_errors) == (frozenset(), {})
            assert ran.stats.stages["output"].hits == ran.stats.rows / 2
            assert staging.proxy.connections == 1
            return staging.proxy.numbered


@pytest.mark.parametrize("moment", [START, MIDDLE], ids=["at the start", "in the middle"])
@pytest.mark.parametrize(
    "row", [pytest.param(row, marks=covers(row.row), id=str(row)) for row in CACHE_ROWS]
)
def test_the_output_is_that_of_a_run_without_a_cache(
    row: CacheRow, moment: float, commands: int, fired: Fired
) -> None:
    off = case.without_cache()
    with staged(*row.options) as staging:
        staging.proxy.turn_on(row.fault(staging), first=int(moment * commands))
        with closing(case.connected(staging.proxy.url, timeout_ms=row.timeout_ms)) as cache:
            ran = case.run(cache)
            row.heal(staging)
        fired(str(row), row.count(staging), seconds=ran.seconds, seconds_off=off.seconds)
    errors = ran.stats.cache_errors
    assert ran.output.equals(off.output)
    assert (errors.keys() & row.counted) or not row.counted
    assert errors.get("timeout", 0) <= 2 * FAILURES


@covers("F1")
def test_a_server_that_was_never_there_is_asked_three_times(fired: Fired) -> None:
    off = case.without_cache()
    with socket.socket() as unused:
        # Bound and not listening: nobody else takes the port, and who connects is refused.
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with closing(case.connected(f"redis://127.0.0.1:{port}")) as cache:
            ran = case.run(cache)
    errors = ran.stats.cache_errors
    fired("F1", errors["unavailable"], seconds=ran.seconds, seconds_off=off.seconds)
    assert ran.output.equals(off.output)
    assert ran.stats.degraded == {"unavailable"}
    assert errors["unavailable"] == FAILURES


@covers("F3")
def test_after_a_restart_the_hits_come_back(fired: Fired) -> None:
    off = case.without_cache()
    with staged() as staging, closing(patient(staging.proxy.url)) as cache:
        staging.restart()
        emptied = case.run(cache)
        again = case.run(cache)
        fired("F3", staging.proxy.connections, seconds=emptied.seconds, seconds_off=off.seconds)
    assert emptied.output.equals(off.output)
    assert again.output.equals(off.output)
    hits = [ran.stats.stages["output"].hits for ran in (emptied, again)]
    assert hits == [0, off.stats.rows]


@covers("F11")
def test_an_answer_that_is_cut_at_any_byte_is_a_miss_or_the_right_row(fired: Fired) -> None:
    cuts = 0
    with staged() as staging:
        row, size_bytes = known_row(staging.server.url)
        for at in range(size_bytes):
            staging.proxy.turn_on(Cut(at), first=staging.proxy.numbered, times=1)
            with closing(patient(staging.proxy.url)) as cache:
                assert not row.found(cache)
                assert row.found(cache), "the next answer is whole"
            cuts += 1
        fired("F11", min(cuts, staging.proxy.fired))
    assert staging.proxy.fired == cuts == size_bytes


@covers("F12")
def test_a_flip_of_any_byte_of_a_value_is_a_miss(fired: Fired) -> None:
    with staged() as staging, closing(patient(staging.proxy.url)) as cache:
        row, size_bytes = known_row(staging.server.url)
        for at in range(size_bytes):
            flip = Flip(at / (size_bytes - 1))
            staging.proxy.turn_on(flip, first=staging.proxy.numbered, times=1)
            assert not row.found(cache)
        assert row.found(cache)
        fired("F12", staging.proxy.fired)
    assert staging.proxy.fired == size_bytes


@covers("F16")
def test_nothing_is_asked_but_for_the_values_themselves(fired: Fired) -> None:
    """So between a question whether an entry is there and the look-up nothing can happen."""
    off = case.without_cache()
    with staged() as staging, closing(patient(staging.proxy.url)) as cache:
        evict = Call(lambda: staging.ask("FLUSHALL"))
        staging.proxy.turn_on(evict, first=1)
        ran = case.run(cache)
        fired("F16", staging.proxy.fired)
        assert staging.proxy.commands.keys() <= {"HELLO", "AUTH", "MGET", "SET"}
    assert ran.output.equals(off.output)
    assert ran.stats.cache_errors == {}


@covers("F13")
def test_a_connection_that_answered_for_another_key_is_not_used_again(fired: Fired) -> None:
    with staged() as staging, closing(patient(staging.proxy.url)) as cache:
        staging.proxy.turn_on(Twice(), first=2, times=1)
        ran = case.run(cache)
        fired("F13", staging.proxy.fired)
        assert staging.proxy.connections == 2
    assert ran.output.equals(case.without_cache().output)
    # Nearly all of the known half: what came over the first connection is computed.
    assert ran.stats.stages["output"].hits >= ran.stats.rows / 2 - 3 * case.BATCH_ROWS


@covers("F5", "F14")
def test_a_store_that_takes_no_writes_is_read_all_the_same(fired: Fired) -> None:
    with staged() as staging:
        staging.ask("CONFIG", "SET", "maxmemory", "1")
        with closing(patient(staging.proxy.url)) as cache:
            ran = case.run(cache)
            fired("F14", staging.errors("OOM"))
            # Not a single one was tried after the first that was refused.
            assert staging.errors("OOM") == staging.proxy.commands["SET"] <= 200
    assert ran.stats.stages["output"].hits == ran.stats.rows / 2
    assert ran.stats.degraded == {"full"}


@covers("F25")
def test_a_changed_password_is_told_once_as_an_error(
    fired: Fired, caplog: pytest.LogCaptureFixture
) -> None:
    with staged() as staging, closing(patient(staging.proxy.url)) as cache:
        case.run(cache)
        staging.ask("ACL", "SETUSER", case.USER, "resetpass", ">after")
        staging.ask("CLIENT", "KILL", "USER", case.USER)
        for _ in range(2):
            ran = case.run(cache)
            assert ran.output.equals(case.without_cache().output)
            assert ran.stats.degraded == {"refused"}
        fired("F25", staging.errors("WRONGPASS"))
        # A locked account would stay locked.
        assert staging.errors("WRONGPASS") == 1
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert case.PASSWORD not in caplog.text


def patient(url: str) -> Cache:
    return case.connected(url, timeout_ms=PATIENT_MS)
