"""Look-ups of many windows on a cluster: a fault in the middle costs a node's share, and nothing is wrong."""

from __future__ import annotations

import gc
import signal
import time
import weakref
from bisect import bisect_right
from collections.abc import Callable, Mapping
from contextlib import closing
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvspark.cache.guard.guard import Guard
from kvspark.errors import StoreUnavailableError
from kvspark.store.cluster import lookup as cluster_lookup
from kvspark.store.cluster import router
from kvspark.store.cluster.cluster import ClusterStore
from kvspark.store.cluster.nodes import Nodes
from kvspark.store.deadline import Deadline
from kvspark.store.endpoint import Endpoint
from kvspark.store.resp.slots import Address, slot_of_tag, tag_of
from kvspark.store.value_table import Part, Scattered
from tests.faults.matrix import covers
from tests.redis_cluster import ClusterAddress, running_cluster
from tests.store.calls import delete, get_many, read, set_many
from tests.store.clock import Clock
from tests.store.parts import in_order

pytestmark = [pytest.mark.redis, pytest.mark.slow]

PATIENT_S = 20.0
SIZE_BYTES = 40
KEYS = [b"k1s....{%02x}%04d" % (row % 64, row) for row in range(600)]
WINDOWS = [KEYS[at : at + 100] for at in range(0, 600, 100)]


def value_of(key: bytes) -> bytes:
    return key.ljust(SIZE_BYTES, b".")


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows stay as they are given."""
    monkeypatch.setattr(cluster_lookup, "WINDOW_KEYS", 100)


@pytest.fixture
def own_cluster():
    """A cluster that may be hurt."""
    with running_cluster(3) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def cluster():
    with running_cluster(3) as cluster:
        yield cluster


def connect(cluster: ClusterAddress) -> ClusterStore:
    seeds = [Endpoint("127.0.0.1", node.port) for node in cluster.nodes]
    return ClusterStore(seeds)


def filled(cluster: ClusterAddress) -> ClusterStore:
    store = connect(cluster)
    assert set_many(store, [(key, value_of(key)) for key in KEYS], ttl_s=600) == len(KEYS)
    return store


def looked_up(
    store: ClusterStore,
    windows: list[list[bytes]] = WINDOWS,
    after: Callable[[int], None] = lambda taken: None,
    *,
    timeout_s: float = PATIENT_S,
) -> tuple[set[bytes], list[type]]:
    """Which keys were found, with the right values or the test fails; and how each part came.

    `after` is told how many windows were taken, each time that another one is whole.
    """
    parts: list[Part] = []
    ends = [*accumulate(map(len, windows))]
    whole = 0

    with closing(store.read(windows, Deadline.after(timeout_s), value_bytes=SIZE_BYTES)) as read:
        for part in read:
            parts.append(part)
            before, whole = whole, bisect_right(ends, sum(map(len, parts)))
            if whole > before:
                after(whole)
    values = in_order(parts)
    keys = [key for window in windows for key in window]
    assert all(v in (None, value_of(k)) for k, v in zip(keys, values, strict=True))
    found = {key for key, value in zip(keys, values, strict=True) if value is not None}
    return found, [*map(type, parts)]


def share(cluster: ClusterAddress, place: int, keys: list[bytes]) -> set[bytes]:
    """The keys of the node at `place`."""
    return {key for key in keys if cluster.owner(slot_of_tag(tag_of(key))) == place}


def test_windows_come_as_tables_and_are_asked_for_ahead(own_cluster, monkeypatch):
    store = filled(own_cluster)
    sent: list[int] = []
    send = Nodes.send

    def counted(self: Nodes, payloads: Mapping[Address, bytes], *args: object) -> object:
        # One command for each of 64 hash tags.
        sent.append(sum(each.count(b"MGET") for each in payloads.values()) // 64)
        return send(self, payloads, *args)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(Nodes, "send", counted)
    ahead: list[int] = []
    found, kinds = looked_up(store, after=lambda taken: ahead.append(sum(sent) - taken))
    assert found == set(KEYS)
    # One of each node.
    assert kinds == [Scattered] * len(WINDOWS) * 3
    assert ahead == [1, 1, 1, 1, 1, 0]
    # Nothing more is sent before the first reply: a relay and a server could keep it for 40 ms.
    assert sent == [2, 1, 1, 1, 1]
    assert sum(node.count("mget") for node in own_cluster.nodes) == 64 * len(WINDOWS)
    assert store.drain() == {}


def test_what_taking_a_nodes_values_needs_is_not_the_time_of_the_others(cluster):
    store, parts = filled(cluster), list[Part]()
    guard = Guard(store, timeout_s=2.0)
    for part in guard.read(WINDOWS[0], value_bytes=SIZE_BYTES):
        parts.append(part)
        time.sleep(2.1)
    assert in_order(parts) == [*map(value_of, WINDOWS[0])]
    assert guard.drain().errors == {}
    assert store.drain() == {}
    store.close()


def test_windows_are_joined_where_their_parts_would_be_small(own_cluster, monkeypatch):
    monkeypatch.setattr(cluster_lookup, "WINDOW_KEYS", 300)
    found, kinds = looked_up(filled(own_cluster))
    assert found == set(KEYS)
    assert kinds == [Scattered] * 2 * 3


@given(
    missing=st.sets(st.integers(0, 599), max_size=30),
    odd=st.sets(st.integers(0, 599), max_size=30),
    step=st.integers(40, 600),
)
def test_whatever_is_missing_or_has_another_size_the_values_are_those_of_a_plain_call(
    cluster, missing, odd, step
):
    with_sizes = [
        (key, value_of(key) if row not in odd else key * (row % 9 + 1))
        for row, key in enumerate(KEYS)
    ]
    store = connect(cluster)
    delete(store, KEYS)
    set_many(store, [each for row, each in enumerate(with_sizes) if row not in missing], ttl_s=600)
    windows = (KEYS[at : at + step] for at in range(0, 600, step))
    values = in_order(read(store, windows, value_bytes=SIZE_BYTES))
    assert values == [
        None if row in missing else value for row, (_, value) in enumerate(with_sizes)
    ]
    assert values == get_many(store, KEYS)
    assert store.drain() == {}
    store.close()


@covers("F28")
def test_a_node_that_is_killed_between_windows_costs_its_keys_from_then_on(
    own_cluster, monkeypatch
):
    # Who has what would be looked for at once, were nothing on its way.
    monkeypatch.setattr(router, "REFRESH_S", 0.0)
    store = filled(own_cluster)
    get_many(store, KEYS)

    def kill(taken: int) -> None:
        if taken == 1:
            own_cluster.nodes[1].signal(signal.SIGKILL)

    found, _ = looked_up(store, after=kill)
    lost = set(KEYS) - found
    # What was on its way may have come.
    assert lost <= share(own_cluster, 1, KEYS[100:])
    assert lost >= share(own_cluster, 1, KEYS[300:])
    assert store.drain().keys() <= {"unavailable", "timeout"}
    found, _ = looked_up(store)
    assert found == set(KEYS) - share(own_cluster, 1, KEYS)


@covers("F28")
def test_a_node_that_hangs_is_waited_for_once_in_a_look_up(own_cluster):
    store = filled(own_cluster)
    get_many(store, KEYS)
    own_cluster.nodes[1].signal(signal.SIGSTOP)
    with Clock() as clock:
        found, _ = looked_up(store, timeout_s=4.0)
    own_cluster.nodes[1].signal(signal.SIGCONT)
    assert found == set(KEYS) - share(own_cluster, 1, KEYS)
    assert store.drain() == {"timeout": 1}
    # Half of the call's time, and not of each window's.
    assert 1.9 < clock.seconds < 3.9
    assert looked_up(store)[0] == set(KEYS)


@covers("F28")
def test_a_node_that_another_connection_gave_up_is_not_waited_for_in_a_look_up(own_cluster):
    store = filled(own_cluster)
    other = store.beside()
    assert isinstance(other, ClusterStore)
    assert looked_up(other)[0] == set(KEYS)
    own_cluster.nodes[1].signal(signal.SIGSTOP)
    for _ in range(3):
        get_many(store, KEYS, timeout_s=1.0)
    # Its line to that node is open as far as it knows.
    with Clock() as clock:
        found, _ = looked_up(other)
    own_cluster.nodes[1].signal(signal.SIGCONT)
    assert found == set(KEYS) - share(own_cluster, 1, KEYS)
    assert store.drain() == {"timeout": 3, "unavailable": 1}
    assert clock.seconds < PATIENT_S / 4


def test_a_slot_that_moves_between_windows_is_asked_for_where_it_is(own_cluster):
    store = filled(own_cluster)
    tag = b"k1s....{zz}"
    slot = slot_of_tag(b"zz")
    source = own_cluster.owner(slot)
    target = (source + 1) % 3
    moved = [tag + b"%d" % row for row in range(100)]
    windows = [*WINDOWS[:2], *[[*moved, *window] for window in WINDOWS[2:]]]

    def move(taken: int) -> None:
        if taken == 1:
            own_cluster.move(slot, source, target)
            fresh = connect(own_cluster)
            assert set_many(fresh, [(key, value_of(key)) for key in moved], ttl_s=60) == 100
            fresh.close()

    before = own_cluster.nodes[source].ask("INFO", "errorstats")
    found, _ = looked_up(store, windows, move)
    assert found == {*KEYS, *moved}
    assert before.count(b"MOVED") == 0
    assert own_cluster.nodes[source].ask("INFO", "errorstats").count(b"MOVED") == 1
    assert store.drain() == {}


def test_connections_that_the_servers_closed_are_opened_once_more_for_all_windows(own_cluster):
    store = filled(own_cluster)
    for node in own_cluster.nodes:
        node.ask("CLIENT", "KILL", "TYPE", "normal")
    found, _ = looked_up(store)
    assert found == set(KEYS)
    assert store.drain() == {}


def test_a_look_up_that_is_broken_off_leaves_nothing_for_the_next_one(own_cluster):
    store = filled(own_cluster)

    def stop(taken: int) -> None:
        if taken == 2:
            raise LookupError

    with pytest.raises(LookupError):
        looked_up(store, after=stop)
    assert looked_up(store)[0] == set(KEYS)


def test_a_store_that_is_dropped_has_no_connection_any_more(cluster):
    store = connect(cluster)
    other = store.beside()
    for each in (store, other):
        get_many(each, KEYS)
    clients = [weakref.ref(each) for each in (store, other)]
    gc.disable()
    try:
        del store, other, each
        assert [client() for client in clients] == [None, None]
    finally:
        gc.enable()


def test_a_cluster_that_is_lost_between_windows_is_no_error(own_cluster):
    store = filled(own_cluster)

    def kill(taken: int) -> None:
        for node in own_cluster.nodes if taken == 1 else ():
            node.signal(signal.SIGKILL)

    found, _ = looked_up(store, after=kill)
    assert set(WINDOWS[0]) <= found < set(KEYS)
    assert store.drain()


def test_a_cluster_that_is_gone_is_an_error(own_cluster):
    store = filled(own_cluster)
    for node in own_cluster.nodes:
        node.signal(signal.SIGKILL)
    with pytest.raises(StoreUnavailableError):
        looked_up(store)
