"""What a namespace's registry says, and that what it says wrongly costs little and changes nothing."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvspark.cache.cache import Cache
from kvspark.cache.namespace.namespace_stats import IDENTITY, SPECS, NamespaceRegistry, Use, parsed
from kvspark.spec import TensorSpec
from tests.redis_server import running_redis

DAY_S = 86_400
TTL_S = 14 * DAY_S
A, B = b"a" * 32, b"b" * 32
EMBEDDING = (TensorSpec("embedding", "float32", (2,)),)


class Time:
    """Seconds since 1970 that a test sets."""

    def __init__(self) -> None:
        self.s = 1_000 * DAY_S

    def __call__(self) -> int:
        return self.s


@pytest.fixture
def cache(key):
    cache = Cache.connect(f"memory://{key(b'registry').decode()}", namespace="n")
    yield cache
    cache.close()


@pytest.fixture
def now():
    return Time()


@pytest.fixture
def registry(cache, now):
    return NamespaceRegistry(cache.keyspace(IDENTITY, SPECS), ttl_s=TTL_S, now_s=now)


def counted(registry: NamespaceRegistry) -> dict[str, tuple[int, int]]:
    stocks = registry.stocks()
    assert stocks is not None
    return {stock.name: (stock.entries, stock.size_bytes) for stock in stocks.values()}


def test_runs_add_up_and_what_has_ended_is_forgotten(registry, now):
    assert counted(registry) == {}
    registry.add({A: Use("trunk", 100, 9_000)})
    registry.add({A: Use("trunk", 1, 90), B: Use("head", 10, 200)})
    assert counted(registry) == {"trunk": (101, 9_090), "head": (10, 200)}
    now.s += 10 * DAY_S
    registry.add({A: Use("trunk", 5, 450), B: Use("head", 0, 0)})
    assert counted(registry) == {"trunk": (106, 9_540), "head": (10, 200)}
    assert registry.stocks()[B].last_used_s == now.s
    now.s += 5 * DAY_S
    assert counted(registry) == {"trunk": (5, 450)}


def test_what_is_purged_is_forgotten(registry, now):
    registry.add({A: Use("trunk", 100, 9_000), B: Use("head", 10, 200)})
    now.s += 2 * DAY_S
    registry.add({A: Use("trunk", 1, 90)})
    registry.remove(None, now.s - DAY_S)
    assert counted(registry) == {"trunk": (1, 90)}
    registry.remove([A])
    assert counted(registry) == {}


def test_of_two_that_add_at_once_nothing_is_lost(cache, now):
    space = cache.keyspace(IDENTITY, SPECS)
    others = NamespaceRegistry(space, ttl_s=TTL_S, now_s=now)

    class Between:
        """The key space, with another run's write between ours and our second look."""

        done = False

        def __getattr__(self, name):
            return getattr(space, name)

        def insert(self, *values, **options):
            written = space.insert(*values, **options)
            if not self.done:
                self.done = True
                # It had read what was there before us.
                space.insert(space.digests([b""]), ([np.frombuffer(b"{}", np.uint8)],), cost_us=0)
                others.add({B: Use("head", 10, 200)})
            return written

    between = Between()
    one = NamespaceRegistry(between, ttl_s=TTL_S, now_s=now)  # type: ignore[arg-type]  # it stands for the key space
    one.add({A: Use("trunk", 1, 90)})
    assert between.done
    assert counted(others) == {"trunk": (1, 90), "head": (10, 200)}


@given(
    st.binary(max_size=50)
    | st.recursive(
        st.none() | st.integers() | st.text(max_size=5) | st.floats(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["format", "stages", "days", "00"]), inner)
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_what_is_no_registry_says_nothing(text):
    assert parsed(text) == {}


@pytest.mark.redis
def test_a_store_that_is_away_says_nothing_and_costs_no_error():
    with running_redis() as server:
        cache = Cache.connect(server.url, namespace="n", timeout_ms=1_000)
        cache.registry().add({A: Use("trunk", 1, 90)})
        assert counted(cache.registry()) == {"trunk": (1, 90)}
        # Sealed, and the names of stages are not for everybody.
        assert b"trunk" not in server.ask("KEYS", "*")
    assert cache.registry().stocks() is None
    cache.registry().add({A: Use("trunk", 1, 90)})
    cache.close()
