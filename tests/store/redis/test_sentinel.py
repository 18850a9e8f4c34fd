"""A primary that real sentinels watch over, and what happens when it is replaced."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable
from contextlib import closing

import pytest

from kvspark.errors import StoreError, StoreRefusedError, StoreUnavailableError
from kvspark.store.deadline import Deadline
from kvspark.store.endpoint import Endpoint
from kvspark.store.redis.sentinel import SentinelStore
from kvspark.store.value_table import Slab
from tests.faults.proxy import FaultProxy
from tests.faults.wire import Say
from tests.redis_cluster import wait_until
from tests.redis_sentinel import SERVICE, SentinelAddress, running_sentinels
from tests.store.calls import PATIENT_S, get_many, ping, set_many, written
from tests.store.clock import Clock
from tests.store.lease_contract import LeaseContract
from tests.store.store_contract import StoreContract

pytestmark = [pytest.mark.redis, pytest.mark.slow]

TIMEOUT_S = 0.8
SLACK_S = 2.0
"""What a busy machine may add to a bound."""


@pytest.fixture(scope="module")
def watched():
    with running_sentinels() as watched:
        yield watched


def connect(watched: SentinelAddress, *, service: str = SERVICE, **options) -> SentinelStore:
    sentinels = [Endpoint("127.0.0.1", each.port, **options) for each in watched.sentinels]
    return SentinelStore(sentinels, service, Endpoint(**options))


class TestSentinelStore(LeaseContract, StoreContract):
    @pytest.fixture
    def store(self, watched):
        store = connect(watched)
        yield store
        store.close()


def test_a_process_has_one_connection_to_the_primary_and_none_to_others(watched):
    store = connect(watched)
    before = len(_clients(watched.primary))
    for _ in range(3):
        set_many(store, [(b"a", b"1")], ttl_s=60)
        get_many(store, [b"a"])
    assert len(_clients(watched.primary)) == before + 1
    store.close()


def _clients(server) -> list[str]:
    said = server.ask("CLIENT", "LIST", "TYPE", "normal").decode().splitlines()
    # The sentinels' own connections have names.
    return [line for line in said if " name= " in line and "cmd=" in line and "/s:0" not in line]


def test_sentinels_that_are_gone_are_passed_over(watched):
    with socket.socket() as taken, socket.socket() as silent:
        for each in (taken, silent):
            each.bind(("127.0.0.1", 0))
        silent.listen()
        ports = [taken.getsockname()[1], silent.getsockname()[1], watched.sentinels[0].port]
        sentinels = [Endpoint("127.0.0.1", port) for port in ports]
        ping(SentinelStore(sentinels, SERVICE, Endpoint()))


def test_a_service_that_no_sentinel_knows_is_refused(watched):
    with pytest.raises(StoreRefusedError, match="knows no service other"):
        ping(connect(watched, service="other"))


def test_no_sentinel_at_all_is_unavailable_at_once():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        sentinels = [Endpoint("127.0.0.1", taken.getsockname()[1])]
        store = SentinelStore(sentinels, SERVICE, Endpoint())
        with Clock() as clock, pytest.raises(StoreUnavailableError):
            get_many(store, [b"a"], timeout_s=TIMEOUT_S)
    assert clock.seconds < SLACK_S


def test_sentinels_with_a_password_are_entered_with_the_stores():
    with running_sentinels(sentinels=1) as watched:
        watched.sentinels[0].ask("ACL", "SETUSER", "default", "resetpass", ">right")
        # The primary's own user has no password, and takes any.
        ping(connect(watched, username="default", password=b"right"), timeout_s=5)
        with pytest.raises(StoreRefusedError):
            ping(connect(watched, username="default", password=b"wrong"), timeout_s=5)
        with pytest.raises(StoreRefusedError):
            ping(connect(watched), timeout_s=5)


def test_a_primary_that_was_killed_is_found_again_where_its_replica_took_over():
    with running_sentinels() as watched:
        store = connect(watched)
        set_many(store, [(b"a", b"1")], ttl_s=60)
        # WAIT would not do: it waits for what was written over its own connection.
        wait_until(lambda: watched.replica.ask("DBSIZE") == watched.primary.ask("DBSIZE"))
        watched.primary.signal(signal.SIGKILL)
        with Clock() as clock, pytest.raises(StoreUnavailableError):
            get_many(store, [b"a"])
        assert clock.seconds < SLACK_S
        wait_until(lambda: watched.primary_port() == watched.replica.port)
        assert get_many(store, [b"a"]) == [b"1"]
        assert set_many(store, [(b"a", b"2")], ttl_s=60) == 1


def looked_up(store: SentinelStore, keys: list[bytes], taken: Callable[[], None]) -> list[bytes]:
    """The values of all keys, which come in slabs; `taken` is called with each."""
    found: list[bytes] = []
    windows = (keys[at : at + 50] for at in range(0, len(keys), 50))
    with closing(store.read(windows, Deadline.after(PATIENT_S), value_bytes=6)) as parts:
        for part in parts:
            assert isinstance(part, Slab)
            found.extend(part.values())
            taken()
    return found


def test_a_look_up_of_many_windows_goes_on_where_the_replica_took_over():
    entries = [(b"%d" % row, b"%06d" % row) for row in range(500)]
    keys, values = [key for key, _ in entries], [value for _, value in entries]
    with running_sentinels() as watched:
        store = connect(watched)
        set_many(store, entries, ttl_s=60)
        assert looked_up(store, keys, lambda: None) == values
        wait_until(lambda: watched.replica.ask("DBSIZE") == watched.primary.ask("DBSIZE"))
        watched.primary.signal(signal.SIGKILL)
        wait_until(lambda: watched.primary_port() == watched.replica.port)
        assert looked_up(store, keys, lambda: None) == values
        assert watched.replica.count("mget") == 10


def test_a_look_up_that_has_begun_is_not_made_again():
    entries = [(b"%d" % row, b"%06d" % row) for row in range(500)]
    keys = [key for key, _ in entries]
    with running_sentinels() as watched:
        store = connect(watched)
        set_many(store, entries, ttl_s=60)
        parts: list[int] = []

        def stop_the_primary() -> None:
            parts.append(len(parts))
            watched.primary.signal(signal.SIGKILL)
            # Whoever asks now is told of the replica.
            wait_until(lambda: watched.primary_port() == watched.replica.port)

        with pytest.raises(StoreUnavailableError):
            looked_up(store, keys, stop_the_primary)
        assert parts
        assert watched.replica.count("mget") == 0


def test_a_primary_that_became_a_replica_is_left_by_a_write_of_many_windows():
    entries = [(b"%d" % row, b"%06d" % row) for row in range(500)]
    with running_sentinels() as watched:
        store = connect(watched)
        set_many(store, [(b"a", b"1")], ttl_s=60)
        watched.primary.signal(signal.SIGSTOP)
        wait_until(lambda: watched.primary_port() == watched.replica.port)
        watched.primary.signal(signal.SIGCONT)
        watched.primary.ask("REPLICAOF", "127.0.0.1", str(watched.replica.port))
        windows = (entries[at : at + 50] for at in range(0, 500, 50))
        assert written(store, windows, ttl_s=60) == [50] * 10
        assert watched.primary.ask("SET", "a", "3").startswith(b"-READONLY")
        assert watched.replica.ask("GET", "499") == b"$6\r\n000499\r\n"


def test_a_sentinel_that_still_names_the_old_primary_is_not_the_only_one_asked():
    with running_sentinels(sentinels=1) as watched:
        stale = b"*2\r\n$9\r\n127.0.0.1\r\n$%d\r\n%d\r\n"
        port = watched.primary.port
        watched.primary.signal(signal.SIGKILL)
        wait_until(lambda: watched.primary_port() == watched.replica.port)
        late = Say(stale % (len(str(port)), port), to="SENTINEL")
        with FaultProxy(watched.sentinels[0].port, late) as proxy:
            sentinels = [
                Endpoint("127.0.0.1", each) for each in (proxy.port, watched.sentinels[0].port)
            ]
            # Sentinels are asked in any order: eight times the late one is hardly ever the second.
            for _ in range(8):
                store = SentinelStore(sentinels, SERVICE, Endpoint())
                assert set_many(store, [(b"a", b"1")], ttl_s=60) == 1
                store.close()
            assert proxy.fired > 0


def test_a_primary_that_became_a_replica_is_left_by_the_first_write():
    with running_sentinels() as watched:
        store = connect(watched)
        set_many(store, [(b"a", b"1")], ttl_s=60)
        watched.primary.signal(signal.SIGSTOP)
        wait_until(lambda: watched.primary_port() == watched.replica.port)
        watched.primary.signal(signal.SIGCONT)
        watched.primary.ask("REPLICAOF", "127.0.0.1", str(watched.replica.port))
        assert set_many(store, [(b"a", b"2")], ttl_s=60, timeout_s=5) == 1
        assert watched.primary.ask("SET", "a", "3").startswith(b"-READONLY")
        assert watched.replica.ask("GET", "a") == b"$1\r\n2\r\n"


def test_a_primary_that_hangs_costs_one_timeout():
    with running_sentinels() as watched:
        store = connect(watched)
        ping(store)
        watched.primary.signal(signal.SIGSTOP)
        with Clock() as clock, pytest.raises(StoreUnavailableError):
            get_many(store, [b"a"], timeout_s=TIMEOUT_S)
        assert clock.seconds < TIMEOUT_S + SLACK_S
        ends = time.monotonic() + 20
        while True:
            assert time.monotonic() < ends
            try:
                set_many(store, [(b"a", b"1")], ttl_s=60, timeout_s=5)
                break
            except StoreError:
                time.sleep(0.1)
        assert watched.replica.ask("GET", "a") == b"$1\r\n1\r\n"
