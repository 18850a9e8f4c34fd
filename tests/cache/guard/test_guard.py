"""What trouble with writing does to later calls: a full store is tried again after a pause, one that refuses us is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import pytest

from kvspark.cache.guard.guard import Guard
from kvspark.errors import StoreFullError, StoreRefusedError
from kvspark.store.breaker import JITTER, PAUSE_S
from kvspark.store.memory.memory import MemoryStore
from tests.cache.guard.test_wait_budget import Time

ENTRIES = [(b"key", b"value")]
AFTER_THE_PAUSE_S = PAUSE_S * (1 + JITTER) + 1


def guarded(
    monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> tuple[Guard, Time, Callable[[], None]]:
    """A guard of a store whose writes raise `trouble`, its clock, and what ends the trouble."""
    store, time = MemoryStore(), Time()

    def fails(*_: object, **__: object) -> NoReturn:
        raise trouble

    monkeypatch.setattr(MemoryStore, "write", fails)
    return Guard(store, timeout_s=1.0, clock=time), time, monkeypatch.undo


def written(guard: Guard) -> int:
    return sum(guard.write([ENTRIES], ttl_s=60.0))


def test_a_full_store_is_written_to_again_after_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    guard, time, ends = guarded(monkeypatch, StoreFullError("no room"))
    assert written(guard) == 0
    ends()
    assert written(guard) == 0  # at once it is not asked
    assert guard.drain().errors["skipped"] == 1
    time.now += AFTER_THE_PAUSE_S
    assert written(guard) == len(b"value")


def test_a_store_that_refuses_us_is_never_written_to_again(monkeypatch: pytest.MonkeyPatch) -> None:
    guard, time, ends = guarded(monkeypatch, StoreRefusedError("no permission"))
    assert written(guard) == 0
    ends()
    time.now += 1_000 * AFTER_THE_PAUSE_S
    assert written(guard) == 0
    assert guard.drain().errors["skipped"] == 1


def test_a_store_that_takes_no_writes_is_still_read(monkeypatch: pytest.MonkeyPatch) -> None:
    guard, _, _ = guarded(monkeypatch, StoreFullError("no room"))
    assert written(guard) == 0
    assert [*guard.read([b"other"], value_bytes=5)] == [[None]]
    assert guard.drain().errors.get("skipped") is None
