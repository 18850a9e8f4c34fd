"""Contents in parts: what two have in common is stored once, and what is lost is a miss."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from hashlib import sha256
from uuid import uuid4

import pytest
from redis import Redis

from kvspark.cache.cache import Cache
from kvspark.cache.namespace.blobs import PART_BYTES, Contents
from tests.redis_server import PATIENT_MS, running_redis

FIRST = bytes(range(256)) * 8192  # two parts
SECOND = b"a head" * 100


def name(content: bytes) -> str:
    return sha256(content).hexdigest()


def pieces(*parts: bytes) -> list[memoryview]:
    return [memoryview(part) for part in parts]


@pytest.fixture
def cache() -> Iterator[Cache]:
    made = Cache.connect(f"memory://{uuid4()}", namespace="weights")
    yield made
    made.close()


@pytest.fixture
def contents(cache: Cache) -> Contents:
    return cache.contents()


def test_a_content_comes_back_and_is_sent_once(contents: Contents) -> None:
    whole = FIRST + SECOND
    assert not contents.has(name(whole))
    # The two halves of FIRST are the same 1 MiB.
    assert contents.put(name(whole), pieces(FIRST, SECOND)) == PART_BYTES + len(SECOND)
    assert contents.has(name(whole))
    assert bytes(contents.get(name(whole), len(whole)) or b"") == whole
    assert contents.put(name(whole), pieces(FIRST, SECOND)) == 0


def test_a_content_sends_what_no_other_has(contents: Contents) -> None:
    contents.put(name(FIRST + SECOND), pieces(FIRST, SECOND))
    other = FIRST + SECOND.upper()
    assert contents.put(name(other), pieces(FIRST, SECOND.upper())) == len(SECOND)
    assert bytes(contents.get(name(other), len(other)) or b"") == other


def test_what_was_never_put_is_a_miss(contents: Contents) -> None:
    assert contents.get(name(FIRST), len(FIRST)) is None


@pytest.mark.parametrize("size", [0, len(SECOND) - 1, len(SECOND) + 1])
def test_a_content_of_another_size_is_a_miss(contents: Contents, size: int) -> None:
    contents.put(name(SECOND), pieces(SECOND))
    assert contents.get(name(SECOND), size) is None


def test_other_bytes_than_the_name_says_are_a_miss(contents: Contents) -> None:
    contents.put(name(SECOND), pieces(SECOND.upper()))
    assert contents.get(name(SECOND), len(SECOND)) is None


def test_another_namespace_finds_nothing() -> None:
    url = f"memory://{uuid4()}"
    one, two = (
        Cache.connect(url, namespace=n, timeout_ms=PATIENT_MS).contents() for n in ("a", "b")
    )
    one.put(name(SECOND), pieces(SECOND))
    assert one.has(name(SECOND))
    assert not two.has(name(SECOND))


@pytest.mark.redis
def test_a_content_outlives_its_list_and_is_written_again_at_half_its_life() -> None:
    with running_redis() as server:
        cache = Cache.connect(server.url, namespace="weights", ttl_s=1000, timeout_ms=PATIENT_MS)
        cache.contents().put(name(SECOND), pieces(SECOND))
        with Redis.from_url(server.url) as client:
            lives_s = sorted(client.pttl(key) / 1000 for key in client.scan_iter())
        cache.close()
    # Part, mark and list, each with its jitter of 10 %.
    assert len(lives_s) == 3
    assert all(440 < life < 551 for life in lives_s[:2])
    assert 890 < lives_s[2] < 1101


@pytest.mark.redis
def test_a_lost_part_is_a_miss_and_a_dead_store_takes_nothing() -> None:
    with running_redis() as server:
        cache = Cache.connect(server.url, namespace="weights", timeout_ms=100)
        contents = cache.contents()
        assert contents.put(name(FIRST), pieces(FIRST)) == PART_BYTES
        assert bytes(contents.get(name(FIRST), len(FIRST)) or b"") == FIRST
        with Redis.from_url(server.url) as client:
            assert client.delete(max(client.scan_iter(), key=client.strlen)) == 1
        assert contents.get(name(FIRST), len(FIRST)) is None
        server.signal(signal.SIGSTOP)
        assert contents.get(name(FIRST), len(FIRST)) is None
        assert contents.put(name(SECOND), pieces(SECOND)) is None
        assert cache.drain().errors == {}  # counted by the contents
        server.signal(signal.SIGCONT)
        cache.close()


@pytest.mark.redis
def test_a_store_without_room_takes_nothing_and_lists_nothing() -> None:
    with running_redis("--maxmemory", "3mb", "--maxmemory-policy", "noeviction") as server:
        contents = Cache.connect(server.url, namespace="weights", timeout_ms=PATIENT_MS).contents()
        whole = b"".join(bytes([n]) * PART_BYTES for n in range(8))
        assert contents.put(name(whole), pieces(whole)) is None
        assert not contents.has(name(whole))
