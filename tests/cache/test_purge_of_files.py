"""What other processes know of files, or have not written to them yet, brings nothing back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from kvspark.cache.cache import Cache
from kvspark.cache.stage.tombstones import SETTLE_S
from kvspark.config.cache import CacheConfig
from kvspark.errors import StoreUnavailableError
from kvspark.spec import TensorSpec
from kvspark.store.files import segment_set as shelf
from kvspark.store.files.cold import ColdStore
from kvspark.store.files.segment import Record, packed
from kvspark.store.files.segment_folder import Folder
from tests.redis_server import PATIENT_MS, RedisAddress, running_redis
from tests.store.calls import delete, set_many
from tests.store.embedded.embedded_processes import wait_until

pytestmark = pytest.mark.redis

EMBEDDING = (TensorSpec("embedding", "float32", (4,)),)
IDENTITY = b"\x01" * 32 + b"\xaa" * 32
ROWS = [b"row %d" % row for row in range(60)]


@pytest.fixture
def server() -> Iterator[RedisAddress]:
    with running_redis() as running:
        yield running


@pytest.fixture
def cold(tmp_path: Path) -> Path:
    return tmp_path / "cold"


@pytest.fixture
def opened(server: RedisAddress, cold: Path) -> Iterator[Callable[[], Cache]]:
    """Opens the one cache, as another process would."""
    config = CacheConfig.checked(
        url=server.url, namespace="n", timeout_ms=PATIENT_MS, cold=cold.as_uri()
    )
    caches: list[Cache] = []

    def opened() -> Cache:
        caches.append(Cache.from_config(config))
        return caches[-1]

    yield opened
    for cache in caches:
        cache.close()


def fill(cache: Cache) -> None:
    space = cache.keyspace(IDENTITY, EMBEDDING)
    assert space.insert(space.digests(ROWS), (np.ones((len(ROWS), 4), dtype="<f4"),), cost_us=1)


def found(cache: Cache, rows: list[bytes] = ROWS) -> int:
    space = cache.keyspace(IDENTITY, EMBEDDING)
    return int(space.lookup(space.digests(rows)).found.sum())


def test_what_a_run_had_not_written_to_a_file_before_the_purge_is_not_found_after_it(
    server: RedisAddress, cold: Path, opened: Callable[[], Cache], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf, "HELD_S", 0.05)
    fill(opened())
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        wait_until(lambda: bool(list(cold.glob("*"))))

    purge = opened().purge(sleep=sleep)
    done = purge.rows({IDENTITY: ROWS[:2]})
    assert waited[0] == SETTLE_S > shelf.MOST_HELD_S
    assert (done.entries, done.left) == (2, 0)
    server.ask("FLUSHALL")
    with closing(opened()) as cache:
        assert (found(cache, ROWS[:2]), found(cache)) == (0, 58)


def test_what_waited_too_long_to_be_written_is_dropped_and_told(
    cold: Path, opened: Callable[[], Cache], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf, "MOST_HELD_S", 0.0)
    cache = opened()
    fill(cache)
    assert cache.drain().degraded == {"timeout"}
    assert not cold.exists()


def test_what_took_too_long_to_write_is_removed_again_and_told(
    cold: Path, opened: Callable[[], Cache], monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(batch: dict[bytes, Record]) -> bytes:
        monkeypatch.setattr(shelf, "MOST_HELD_S", 0.0)
        return packed(batch)

    monkeypatch.setattr(shelf, "packed", slowly)
    cache = opened()
    fill(cache)
    assert cache.drain().degraded == {"timeout"}
    assert cold.exists()
    assert list(cold.iterdir()) == []


def test_deleting_fails_where_what_says_so_was_dropped(
    cold: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ColdStore(Folder.at(cold.as_uri()))
    set_many(store, [(b"a", b"1")], ttl_s=None)
    monkeypatch.setattr(shelf, "MOST_HELD_S", 0.0)
    with pytest.raises(StoreUnavailableError, match="not written yet"):
        delete(store, [b"a"])


def test_what_another_process_still_finds_in_a_file_and_copies_to_redis_is_removed_too(
    server: RedisAddress, opened: Callable[[], Cache]
) -> None:
    with closing(opened()) as cache:
        fill(cache)
    server.ask("FLUSHALL")
    reader = opened()
    assert found(reader, [b"none of them"]) == 0  # It knows the file now.
    copied: list[int] = []

    def sleep(seconds: float) -> None:
        # A purge waits twice: until nobody inserts, and until nobody copies.
        if seconds != SETTLE_S:
            assert seconds > shelf.REFRESH_S
            copied.append(found(reader, ROWS[:2]))

    purge = opened().purge(sleep=sleep)
    assert purge.rows({IDENTITY: ROWS[:2]}).left == 0
    assert copied == [2]
    reader.close()
    assert (found(reader, ROWS[:2]), found(reader)) == (0, 58)
