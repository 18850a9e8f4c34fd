"""A table behind a Thrift gateway that speaks HBase's own IDL, and what its trouble costs."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import happybase
import pytest

from kvspark.errors import (
    StoreError,
    StoreFullError,
    StoreRefusedError,
    StoreUnavailableError,
)
from kvspark.store.hbase.hbase import Gateway, HBaseStore, row_key
from kvspark.store.redis_error import is_timeout
from tests.hbase_server import HBaseAddress, running_hbase
from tests.store.calls import get_many, ping, set_many
from tests.store.clock import Clock
from tests.store.store_contract import ANY_BYTES, StoreContract
from tests.store.test_stateful import check

TIMEOUT_S = 0.8
SLACK_S = 2.0
"""What a busy machine may add to a bound."""
PATIENT_S = 5.0
"""For what answers in the end."""


@pytest.fixture(scope="module")
def hbase():
    with running_hbase() as server:
        yield server


@pytest.fixture
def own_hbase():
    """A gateway that may be hurt."""
    with running_hbase() as server:
        yield server


_OPENED: list[HBaseStore] = []


@pytest.fixture(autouse=True)
def closed():
    """Whatever a test has connected is closed after it."""
    yield
    while _OPENED:
        _OPENED.pop().close()


def connect(server: HBaseAddress, *, table: str = "kvspark", **options) -> HBaseStore:
    gateway = Gateway("127.0.0.1", server.port, table, **options)
    store = HBaseStore(gateway)
    _OPENED.append(store)
    return store


@contextmanager
def bare(server: HBaseAddress) -> Iterator[happybase.Connection]:
    """happybase's own client, which goes around what is under test."""
    connection = happybase.Connection("127.0.0.1", server.port, timeout=5_000)
    yield connection
    connection.close()


class TestHBaseStore(StoreContract):
    @pytest.fixture
    def store(self, hbase):
        store = connect(hbase)
        yield store
        store.close()


def test_a_gateway_with_a_framed_transport_is_spoken_to_in_frames():
    with running_hbase("framed") as server:
        store = connect(server, is_framed=True)
        ping(store)
        set_many(store, [(b"a", ANY_BYTES)], ttl_s=60)
        assert get_many(store, [b"a", b"b"]) == [ANY_BYTES, None]


def test_a_table_is_a_dictionary(hbase):
    check(connect(hbase))


def calls(server: HBaseAddress) -> dict[str, int]:
    """How often each request was made."""
    with bare(server) as connection:
        said = [name.decode().partition("=") for name in connection.tables()]
    return {name: int(count) for name, _, count in said}


def test_many_keys_are_one_request(own_hbase):
    store = connect(own_hbase)
    entries = [(b"%d" % row, b"x" * 100) for row in range(500)]
    set_many(store, entries, ttl_s=60)
    assert get_many(store, [key for key, _ in entries]) == [value for _, value in entries]
    assert calls(own_hbase) == {"mutateRows": 1, "getRowsWithColumns": 1}


def test_rows_of_keys_that_begin_alike_are_spread_over_all_regions(own_hbase):
    store = connect(own_hbase)
    keys = [b"k1s\0\1\2\3{%02x}%d" % (row % 256, row) for row in range(2_000)]
    set_many(store, [(key, b"x") for key in keys], ttl_s=60)
    rows = [row_key(key) for key in keys]
    with bare(own_hbase) as connection:
        assert len(connection.table("kvspark").rows(rows, columns=[b"v:e"])) == 2_000
    shares = [sum(row[:1] == b"%x" % digit for row in rows) for digit in range(16)]
    assert min(shares) > 80
    assert max(shares) < 180


@pytest.mark.parametrize("is_open", [True, False], ids=["connected", "not connected"])
def test_a_gateway_that_hangs_costs_one_timeout_and_answers_again_later(own_hbase, is_open):
    store = connect(own_hbase)
    if is_open:
        set_many(store, [(b"a", b"1")], ttl_s=None, timeout_s=5)
    own_hbase.signal(signal.SIGSTOP)
    with Clock() as clock, pytest.raises(StoreUnavailableError) as caught:
        get_many(store, [b"a"], timeout_s=TIMEOUT_S)
    own_hbase.signal(signal.SIGCONT)
    assert is_timeout(caught.value)
    assert TIMEOUT_S * 0.9 < clock.seconds < TIMEOUT_S + SLACK_S
    assert get_many(store, [b"b", b"a"], timeout_s=5) == [None, b"1" if is_open else None]


def test_a_gateway_that_was_killed_is_unavailable_at_once(own_hbase):
    store = connect(own_hbase)
    ping(store, timeout_s=5)
    own_hbase.signal(signal.SIGKILL)
    with Clock() as clock, pytest.raises(StoreUnavailableError):
        get_many(store, [b"a"])
    assert clock.seconds < SLACK_S


def test_a_refused_port_is_unavailable_at_once():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        store = HBaseStore(Gateway("127.0.0.1", taken.getsockname()[1], "kvspark"))
        with Clock() as clock, pytest.raises(StoreUnavailableError):
            get_many(store, [b"a"])
    assert clock.seconds < SLACK_S


def test_an_answer_that_is_no_thrift_is_unavailable():
    def answer() -> None:
        link, _ = listener.accept()
        with link:
            link.recv(65_536)
            link.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer)
        thread.start()
        store = HBaseStore(Gateway("127.0.0.1", listener.getsockname()[1], "kvspark"))
        with pytest.raises(StoreUnavailableError):
            get_many(store, [b"a"])
        thread.join()


@pytest.mark.parametrize(
    ("table", "kind", "said"),
    [
        ("absent", StoreRefusedError, "TableNotFound"),
        ("denied", StoreRefusedError, "AccessDenied"),
        ("busy", StoreFullError, "RegionTooBusy"),
        ("other", StoreRefusedError, "NoSuchColumnFamily"),
    ],
)
def test_what_hbase_says_is_told_by_its_exceptions_name(hbase, table, kind, said):
    store = connect(hbase, table=table)
    with pytest.raises(kind, match=said) as caught:
        set_many(store, [(b"secret-row", b"1")], ttl_s=60)
    assert "row-content" not in str(caught.value)
    if table == "other":
        with pytest.raises(StoreRefusedError, match="create 'other'"):
            ping(store)
    if table == "busy":
        assert get_many(store, [b"a"]) == [None]


def test_a_cell_that_somebody_else_wrote_is_missing(hbase):
    with bare(hbase) as connection:
        connection.table("kvspark").put(row_key(b"foreign"), {b"v:e": b"short"})
    assert get_many(connect(hbase), [b"foreign"]) == [None]
    with pytest.raises(StoreError):
        get_many(connect(hbase, table="absent"), [b"a"])
