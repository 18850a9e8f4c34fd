"""The proxy does to a connection what its fault says, at the command that was counted."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.faults.proxy import FaultProxy
from tests.faults.resp import frames, items
from tests.faults.wire import (
    BlackHole,
    Call,
    Close,
    Cut,
    Delay,
    Drip,
    Fault,
    Flip,
    Lossy,
    Reset,
    Say,
    Swap,
    SwapValues,
    Throttle,
    Twice,
)
from tests.redis_server import RedisAddress, running_redis

pytestmark = pytest.mark.redis

MGET = b"*3\r\n$4\r\nMGET\r\n$1\r\na\r\n$1\r\nb\r\n"
GET_A = b"*2\r\n$4\r\nMGET\r\n$1\r\na\r\n"
GET_B = b"*2\r\n$4\r\nMGET\r\n$1\r\nb\r\n"
BOTH = b"*2\r\n$5\r\nfirst\r\n$6\r\nsecond\r\n"
ONLY_A = b"*1\r\n$5\r\nfirst\r\n"
ONLY_B = b"*1\r\n$6\r\nsecond\r\n"


@pytest.fixture(scope="module")
def server() -> Iterator[RedisAddress]:
    with running_redis() as server:
        server.ask("MSET", "a", "first", "b", "second")
        yield server


def said(proxy: FaultProxy, *commands: bytes, size: int, wait_s: float = 5) -> bytes:
    """What comes back on one connection, `size` bytes or until it ends."""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=wait_s) as link:
        link.sendall(b"".join(commands))
        received = b""
        try:
            while len(received) < size and (piece := link.recv(1 << 16)):
                received += piece
        except TimeoutError:
            received += b"(silence)"
        return received


def test_without_a_fault_everything_goes_through(server):
    with FaultProxy(server.port) as proxy:
        assert said(proxy, MGET, GET_B, size=len(BOTH + ONLY_B)) == BOTH + ONLY_B
    assert (proxy.numbered, proxy.commands["MGET"], proxy.connections) == (2, 2, 1)
    assert proxy.fired == 0


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Cut(7), BOTH[:7]),
        (Cut(0), b""),
        (Flip(0.0), BOTH.replace(b"second", b"cecond")),
        (Flip(1.0), BOTH.replace(b"second", b"secont")),
        (SwapValues(), b"*2\r\n$6\r\nsecond\r\n$5\r\nfirst\r\n"),
        (Twice(), BOTH + BOTH),
        (Close(), b""),
        (Say(b"-LOADING\r\n"), b"-LOADING\r\n"),
        (Delay(0.01), BOTH),
        (Drip(8, 0.001), BOTH),
        (Throttle(1e5, 8), BOTH),
        (Lossy(1.0, 0.01), BOTH),
    ],
    ids=lambda value: repr(value).partition(" at ")[0] if isinstance(value, Fault) else "",
)
def test_a_fault_does_what_it_says(server, fault, expected):
    with FaultProxy(server.port, fault) as proxy:
        size = len(expected) or 1
        assert said(proxy, MGET, size=size) == expected
    assert proxy.fired >= 1


def test_two_replies_trade_places(server):
    with FaultProxy(server.port, Swap()) as proxy:
        assert said(proxy, GET_A, GET_B, size=len(ONLY_A + ONLY_B)) == ONLY_B + ONLY_A
        assert said(proxy, MGET, GET_B, size=len(BOTH + ONLY_B)) == BOTH + ONLY_B
    assert proxy.fired == 1


def test_a_reset_is_no_orderly_end(server):
    with FaultProxy(server.port, Reset()) as proxy, pytest.raises(ConnectionResetError):
        said(proxy, MGET, size=1)
    assert proxy.fired >= 1


def test_a_black_hole_says_nothing_and_stays_open(server):
    with FaultProxy(server.port, BlackHole()) as proxy:
        assert said(proxy, MGET, size=1, wait_s=0.2) == b"(silence)"
        assert said(proxy, b"*1\r\n$4\r\nPING\r\n", size=1, wait_s=0.2) == b"(silence)"
    assert proxy.fired == 2


def test_a_fault_acts_on_the_commands_that_were_counted_and_no_others(server):
    with FaultProxy(server.port, Say(b"-ERR\r\n"), first=1, times=2) as proxy:
        replies = said(proxy, GET_B, GET_B, GET_B, GET_B, size=2 * len(ONLY_B) + 12)
        assert replies == ONLY_B + b"-ERR\r\n" * 2 + ONLY_B
    assert proxy.fired == 2


def test_the_setup_of_a_connection_is_not_counted(server):
    with FaultProxy(server.port, Say(b"-ERR\r\n")) as proxy:
        assert said(proxy, b"*1\r\n$4\r\nPING\r\n", size=7) == b"+PONG\r\n"
    assert (proxy.numbered, proxy.fired) == (0, 0)


def test_something_is_done_to_the_server_once_between_two_commands(server):
    asked: list[bytes] = []
    with FaultProxy(server.port, Call(lambda: asked.append(server.ask("PING"))), first=1) as proxy:
        said(proxy, GET_B, GET_B, GET_B, size=3 * len(ONLY_B))
    assert asked == [b"+PONG\r\n"]
    assert proxy.fired == 1


def test_a_proxy_that_refuses_is_a_closed_port(server):
    with FaultProxy(server.port) as proxy:
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            said(proxy, MGET, size=1)


def test_a_proxy_ends_in_the_middle_of_a_pause(server):
    started = time.monotonic()
    with FaultProxy(server.port, Delay(3_600)) as proxy:
        said(proxy, MGET, size=1, wait_s=0.2)
    assert time.monotonic() - started < 60
    assert proxy.fired == 1


REPLIES = [b"+OK\r\n", b"$-1\r\n", b"_\r\n", b":12\r\n", b"$0\r\n\r\n", b"*0\r\n", BOTH]
REPLIES += [b"%1\r\n+k\r\n*2\r\n$2\r\n\r\n\r\n-e\r\n", b"$4\r\n*3\r\n\r\n"]


@given(st.lists(st.sampled_from(REPLIES)), st.integers(1, 9))
def test_frames_are_found_in_any_pieces(replies, size):
    sent, buffer, found = b"".join(replies), bytearray(), []
    for at in range(0, len(sent), size):
        buffer += sent[at : at + size]
        found += frames(buffer)
    assert found == replies
    assert not buffer
    assert items(b"*%d\r\n%b" % (len(replies), sent)) == replies
