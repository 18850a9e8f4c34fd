from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kvspark.errors import (
    StoreError,
    StoreFullError,
    StoreRefusedError,
    StoreUnavailableError,
)
from kvspark.store.endpoint import Endpoint
from kvspark.store.redis.server import RedisStore
from kvspark.store.redis_error import is_timeout
from tests.redis_server import RedisAddress, running_redis
from tests.store.calls import get_many, ping, set_many
from tests.store.clock import Clock
from tests.store.lease_contract import LeaseContract
from tests.store.redis.redis_stores import over_socket, over_tcp
from tests.store.store_contract import StoreContract

pytestmark = [pytest.mark.redis, pytest.mark.slow]

TIMEOUT_S = 0.6
SLACK_S = 2.0
"""What a busy machine may add to a bound."""


class TestRedisStoreOverTcp(LeaseContract, StoreContract):
    @pytest.fixture
    def store(self, redis_server):
        store = RedisStore(Endpoint("127.0.0.1", redis_server.port))
        yield store
        store.close()


class TestRedisStoreOverUnixSocket(StoreContract):
    @pytest.fixture
    def store(self, redis_server):
        store = RedisStore(Endpoint(socket_path=redis_server.socket_path, db=3))
        yield store
        store.close()


def test_many_keys_are_few_commands_and_one_connection(own_server):
    store = over_tcp(own_server)
    entries = [(b"%d" % row, b"x") for row in range(1_000)]
    set_many(store, entries, ttl_s=60)
    get_many(store, [key for key, _ in entries])
    assert own_server.count("mget") == 2
    assert own_server.count("hello") == 1
    assert own_server.count("client|setinfo") == 0
    clients = own_server.ask("CLIENT", "LIST", "TYPE", "normal").decode().splitlines()
    assert len([line for line in clients if "127.0.0.1" in line]) == 1


def test_every_entry_has_its_ttl(own_server):
    store = over_tcp(own_server)
    set_many(store, [(b"a", b"1"), (b"b", b"2")], ttl_s=100)
    assert own_server.ask("TTL", "a") in (b":100\r\n", b":99\r\n")
    set_many(store, [(b"a", b"1")], ttl_s=None)
    assert own_server.ask("TTL", "a") == b":-1\r\n"


def test_a_refused_port_is_unavailable_at_once():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        store = RedisStore(Endpoint("127.0.0.1", taken.getsockname()[1]))
        with Clock() as clock, pytest.raises(StoreUnavailableError, match="refused"):
            get_many(store, [b"a"])
    assert clock.seconds < SLACK_S


def test_a_socket_that_is_not_there_is_unavailable(tmp_path):
    store = RedisStore(Endpoint(socket_path=str(tmp_path / "none")))
    with pytest.raises(StoreUnavailableError):
        ping(store)


@pytest.mark.parametrize("is_open", [True, False], ids=["connected", "not connected"])
def test_a_hung_server_costs_one_timeout_and_answers_again_later(own_server, connect, is_open):
    store = connect(own_server)
    if is_open:
        set_many(store, [(b"a", b"1")], ttl_s=None)
    own_server.signal(signal.SIGSTOP)
    with Clock() as clock, pytest.raises(StoreUnavailableError) as caught:
        get_many(store, [b"a"], timeout_s=TIMEOUT_S)
    own_server.signal(signal.SIGCONT)
    assert is_timeout(caught.value)
    assert TIMEOUT_S * 0.9 < clock.seconds < TIMEOUT_S + SLACK_S
    expected = [b"1"] if is_open else [None]
    assert get_many(store, [b"a"], timeout_s=5) == expected


def test_a_late_answer_is_not_taken_for_the_next_one(own_server, connect):
    store = connect(own_server)
    set_many(store, [(b"a", b"1"), (b"b", b"2")], ttl_s=None)
    own_server.signal(signal.SIGSTOP)
    with pytest.raises(StoreUnavailableError):
        get_many(store, [b"a"], timeout_s=0.05)
    own_server.signal(signal.SIGCONT)
    time.sleep(0.05)
    assert get_many(store, [b"b"], timeout_s=5) == [b"2"]


@pytest.fixture
def interruptible():
    """SIGINT interrupts, also in a process that a shell has started in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupted_call_leaves_nothing_behind(own_server):
    store = over_tcp(own_server)
    set_many(store, [(b"a", b"1"), (b"b", b"2")], ttl_s=None)
    own_server.signal(signal.SIGSTOP)
    main = threading.main_thread().ident
    assert main is not None
    threading.Timer(0.1, signal.pthread_kill, [main, signal.SIGINT]).start()
    with Clock() as clock, pytest.raises(KeyboardInterrupt):
        get_many(store, [b"a"], timeout_s=5)
    assert clock.seconds < 5
    own_server.signal(signal.SIGCONT)
    assert get_many(store, [b"b"], timeout_s=5) == [b"2"]


def test_a_killed_server_is_unavailable(own_server, connect):
    store = connect(own_server)
    ping(store)
    own_server.signal(signal.SIGKILL)
    with Clock() as clock, pytest.raises(StoreUnavailableError):
        get_many(store, [b"a"])
    assert clock.seconds < SLACK_S


def test_a_closed_connection_is_opened_once_more(own_server, connect):
    store = connect(own_server)
    set_many(store, [(b"a", b"1")], ttl_s=None)
    own_server.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert get_many(store, [b"a"]) == [b"1"]
    assert own_server.count("hello") == 2


def test_a_wrong_password_is_refused():
    with running_redis("--requirepass", "right") as server:
        for password in (None, b"wrong"):
            with pytest.raises(StoreRefusedError) as caught:
                ping(over_tcp(server, password=password))
            assert "wrong" not in str(caught.value)
        ping(over_tcp(server, password=b"right"))
        ping(over_socket(server, password=b"right"))


def test_a_user_without_a_permission_is_refused_what_is_not_allowed():
    with running_redis() as server:
        server.ask("ACL", "SETUSER", "reader", "on", ">pw", "~*", "+mget", "+hello")
        store = over_tcp(server, username="reader", password=b"pw")
        assert get_many(store, [b"a"]) == [None]
        with pytest.raises(StoreRefusedError, match="its user may not run set; allow it"):
            set_many(store, [(b"a", b"1"), (b"b", b"1")], ttl_s=None)
        assert get_many(store, [b"a"]) == [None]


def test_a_server_without_hello_is_spoken_to_in_the_older_protocol():
    with running_redis("--rename-command", "HELLO", "") as server:
        store = over_tcp(server)
        set_many(store, [(b"a", b"1")], ttl_s=10)
        assert get_many(store, [b"a", b"b"]) == [b"1", None]
        assert server.count("mget") == 1


def test_a_full_server_refuses_writes_and_still_reads(own_server, connect):
    store = connect(own_server)
    set_many(store, [(b"a", b"1")], ttl_s=None)
    own_server.ask("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(StoreFullError):
        set_many(store, [(b"b", b"2"), (b"c", b"3")], ttl_s=60)
    assert get_many(store, [b"a", b"b"]) == [b"1", None]


def test_a_replica_refuses_writes_and_still_reads(own_server, connect):
    store = connect(own_server)
    set_many(store, [(b"a", b"1")], ttl_s=None)
    own_server.ask("REPLICAOF", "127.0.0.1", "1")
    with pytest.raises(StoreFullError):
        set_many(store, [(b"b", b"2")], ttl_s=60)
    assert get_many(store, [b"a"]) == [b"1"]


def test_a_server_that_cannot_save_refuses_writes(tmp_path):
    folder = tmp_path / "gone"
    folder.mkdir()
    with running_redis("--dir", str(folder)) as server:
        # Redis 6 takes one --save from its command line and leaves out the next.
        server.ask("CONFIG", "SET", "save", "3600 1")
        store = over_tcp(server)
        set_many(store, [(b"a", b"1")], ttl_s=None)
        folder.rmdir()
        server.ask("BGSAVE")
        ends = time.monotonic() + 10
        while b"MISCONF" not in server.ask("SET", "a", "2"):
            assert time.monotonic() < ends
            time.sleep(0.05)
        with pytest.raises(StoreFullError):
            set_many(store, [(b"b", b"2")], ttl_s=60)
        assert get_many(store, [b"b"]) == [None]
        # It would not go before it has saved.
        server.signal(signal.SIGKILL)


def test_paused_writes_do_not_stop_reads(own_server):
    store = over_tcp(own_server)
    ping(store)
    own_server.ask("CLIENT", "PAUSE", "60000", "WRITE")
    with pytest.raises(StoreUnavailableError):
        set_many(store, [(b"b", b"2")], ttl_s=60)
    assert get_many(store, [b"b"]) == [None]


@contextmanager
def only_client(server: RedisAddress) -> Iterator[None]:
    """The one client of a server that takes one; the server may not know yet that others have left."""
    ends = time.monotonic() + 10
    while True:
        with socket.create_connection(("127.0.0.1", server.port)) as link:
            link.sendall(b"PING\r\n")
            if link.recv(10) == b"+PONG\r\n":
                yield
                return
        assert time.monotonic() < ends


def test_too_many_clients_are_unavailable(own_server):
    own_server.ask("CONFIG", "SET", "maxclients", "1")
    with only_client(own_server), pytest.raises(StoreUnavailableError):
        ping(over_tcp(own_server))


def test_a_database_that_is_not_there_is_refused(redis_server):
    with pytest.raises(StoreRefusedError):
        ping(over_tcp(redis_server, db=99))


def test_a_plain_port_that_is_spoken_to_in_tls_is_refused_or_unavailable(redis_server):
    with pytest.raises(StoreError):
        ping(over_tcp(redis_server, is_tls=True))
    assert b"+PONG" in redis_server.ask("PING")


class FakeServer:
    """A socket that says what it is told to, whatever it is asked."""

    def __init__(self, *pieces: bytes, pause_s: float = 0.0) -> None:
        self._pieces, self._pause_s = pieces, pause_s
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.sent_bytes = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        try:
            link, _ = self._listener.accept()
            with link:
                for number, piece in enumerate(self._pieces):
                    if number < 2:  # the first two answer a question each
                        link.recv(65_536)
                    self.sent_bytes += len(piece)
                    link.sendall(piece)
                    time.sleep(self._pause_s)
        except OSError:
            pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.close()


HELLO = b"%1\r\n$5\r\nproto\r\n:3\r\n"


def test_a_server_that_drips_its_answer_is_bounded_too():
    drip = [HELLO, b"*1\r\n$4096\r\n", *[b"x" * 64] * 64]
    with FakeServer(*drip, pause_s=0.05) as server:
        store = RedisStore(Endpoint("127.0.0.1", server.port))
        with Clock() as clock, pytest.raises(StoreUnavailableError) as caught:
            get_many(store, [b"a"], timeout_s=TIMEOUT_S)
        assert server.sent_bytes > 64
    assert is_timeout(caught.value)
    assert clock.seconds < TIMEOUT_S + SLACK_S


@pytest.mark.parametrize(
    "answer",
    [b"*2\r\n$1\r\n1\r\n$1\r\n2\r\n", b"$1\r\n1\r\n", b"?!\r\n", b"*1\r\n$5\r\nab"],
    ids=["too many", "no array", "not RESP", "cut"],
)
def test_an_answer_of_another_form_is_unavailable(answer):
    with FakeServer(HELLO, answer, pause_s=0.05) as server:
        store = RedisStore(Endpoint("127.0.0.1", server.port))
        with pytest.raises(StoreUnavailableError):
            get_many(store, [b"a"], timeout_s=TIMEOUT_S)
        assert server.sent_bytes == len(HELLO) + len(answer)
