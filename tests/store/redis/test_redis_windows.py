"""Look-ups of many windows, and writes in pieces."""

from __future__ import annotations

import pytest

from kvspark.errors import StoreUnavailableError
from kvspark.store.deadline import Deadline
from kvspark.store.endpoint import Endpoint
from kvspark.store.redis.server import RedisStore
from kvspark.store.redis_error import is_timeout
from kvspark.store.resp.resp_connection import Wire
from kvspark.store.value_table import Part, Slab
from tests.faults.proxy import FaultProxy
from tests.faults.wire import Drip
from tests.store.calls import get_many, read, set_many, taken
from tests.store.parts import in_order

pytestmark = pytest.mark.redis


def test_a_closed_connection_is_opened_once_more_for_a_look_up_of_many_windows(own_server, connect):
    store = connect(own_server)
    entries = [(b"%d" % row, b"%06d" % row) for row in range(500)]
    set_many(store, entries, ttl_s=None)
    own_server.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    keys = [key for key, _ in entries]
    parts = read(store, (keys[at : at + 50] for at in range(0, 500, 50)), value_bytes=6)
    assert all(isinstance(part, Slab) for part in parts)
    found = [value for part in parts if isinstance(part, Slab) for value in part.values()]
    assert found == [value for _, value in entries]
    assert own_server.count("hello") == 2


def test_nothing_more_is_sent_before_the_first_reply(own_server, connect, monkeypatch):
    """Of two writes, a relay and a server that wait for each other keep the second for 40 ms."""
    store = connect(own_server)
    entries = [(b"%d" % row, bytes(20_000)) for row in range(60)]
    set_many(store, entries, ttl_s=None)
    done: list[str] = []
    for name in ("send", "read_part"):
        work = getattr(Wire, name)

        def noting(*args: object, name: str = name, work=work, **options: object) -> object:
            done.append(name)
            return work(*args, **options)

        monkeypatch.setattr(Wire, name, noting)
    keys = [key for key, _ in entries]
    windows = (keys[at : at + 12] for at in range(0, 60, 12))
    read(store, windows, value_bytes=20_000)
    assert done[:2] == ["send", "read_part"]
    assert done.count("send") == 5


def test_a_look_up_whose_time_is_up_in_the_middle_keeps_what_it_has(own_server, connect):
    store = connect(own_server)
    set_many(store, [(b"a", b"1"), (b"b", b"2")], ttl_s=None)
    parts: list[Part] = []
    deadline = Deadline(4, lambda: len(parts))
    with pytest.raises(StoreUnavailableError) as caught:
        taken(store.read([[b"a"]] * 9, deadline, value_bytes=1), parts)
    assert is_timeout(caught.value)
    assert 0 < len(parts) < 9
    assert get_many(store, [b"b"]) == [b"2"]


def test_large_values_are_written_from_where_they_are(own_server, connect):
    store = connect(own_server)
    entries = [(b"%d" % row, bytes([row]) * 70_000) for row in range(40)]
    assert set_many(store, entries, ttl_s=60) == 40
    mixed = [(b"large", b"l" * 50_000), *((b"small%d" % row, b"s") for row in range(300))]
    assert set_many(store, mixed, ttl_s=60) == 301
    known = dict([*entries, *mixed])
    assert get_many(store, list(known)) == list(known.values())
    assert 0 < int(own_server.ask("PTTL", "39")[1:]) <= 60_000


@pytest.mark.parametrize("odd", [None, b"of another size"], ids=["missing", "of another size"])
def test_values_that_come_slowly_are_given_as_they_come(own_server, odd):
    """And what follows a value that is not as expected is in its place all the same."""
    values: list[bytes | None] = [bytes([row]) * 20_000 for row in range(60)]
    values[29] = odd
    entries = [(b"%d" % row, value) for row, value in enumerate(values) if value is not None]
    with FaultProxy(own_server.port, Drip(size_bytes=90_000, pause_s=0.002)) as proxy:
        store = RedisStore(Endpoint("127.0.0.1", proxy.port))
        set_many(store, entries, ttl_s=None)
        keys = [b"%d" % row for row in range(60)]
        windows = (keys[at : at + 20] for at in range(0, 60, 20))
        parts = read(store, windows, value_bytes=20_000)
        store.close()
    assert proxy.fired
    # The first window is asked for in two; one of them, or the last, came in several parts.
    assert len(parts) > 4
    assert in_order(parts) == values
