"""A store in this process's memory: for tests, notebooks and the reference of the contract.

It is bounded in bytes and evicts what was not used for longest. Other processes do not see it.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import final

from typing_extensions import override

from kvspark.store.base import Counts, Entries, Keys, Parts, Store
from kvspark.store.deadline import Deadline

MAX_BYTES = 256 * 2**20


@final
class MemoryStore(Store):
    """A dictionary of at most `max_bytes` bytes of keys and values."""

    def __init__(
        self, max_bytes: int = MAX_BYTES, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_bytes = max_bytes
        self.clock = clock
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._entries: OrderedDict[bytes, tuple[bytes, float]] = OrderedDict()
        self._size_bytes = 0

    @property
    def size_bytes(self) -> int:
        """Bytes of all keys and values, those that have expired unnoticed included."""
        return self._size_bytes

    @override
    def read(self, windows: Iterable[Keys], deadline: Deadline, *, value_bytes: int = 0) -> Parts:
        for keys in windows:
            with self._turn():
                now = self.clock()
                values = [self._get(key, now) for key in keys]
            yield values

    @override
    def write(
        self, windows: Iterable[Entries], deadline: Deadline, *, ttl_s: float | None
    ) -> Counts:
        for entries in windows:
            with self._turn():
                ends = math.inf if ttl_s is None else self.clock() + ttl_s
                taken = sum(self._set(key, value, ends) for key, value in entries)
            yield taken

    @override
    def delete(self, keys: Keys, deadline: Deadline) -> int:
        with self._turn():
            now = self.clock()
            present = [key for key in dict.fromkeys(keys) if self._get(key, now) is not None]
            for key in present:
                self._drop(key)
            return len(present)

    @override
    def scan(self, prefix: bytes, *, each_s: float) -> Iterator[list[bytes]]:
        with self._turn():
            keys = [key for key in self._entries if key.startswith(prefix)]
        yield keys

    @override
    def ping(self, deadline: Deadline) -> None:
        """Returns at once: this process's memory is always there."""

    @override
    def close(self) -> None:
        """Does nothing: another cache of this process may have the same store open."""

    def _turn(self) -> threading.Lock:
        if self._pid != os.getpid():
            # A forked child: a thread of the parent may have held the lock, and been at counting.
            self._pid = os.getpid()
            self._lock = threading.Lock()
            self._size_bytes = sum(len(key) + len(each[0]) for key, each in self._entries.items())
        return self._lock

    def _get(self, key: bytes, now: float) -> bytes | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        value, ends = entry
        if ends <= now:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return value

    def _set(self, key: bytes, value: bytes, ends: float) -> int:
        self._drop(key)
        if len(key) + len(value) > self._max_bytes:
            return 0
        self._entries[key] = (value, ends)
        self._size_bytes += len(key) + len(value)
        while self._size_bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))
        return 1

    def _drop(self, key: bytes) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._size_bytes -= len(key) + len(entry[0])


_NAMED: dict[str, MemoryStore] = {}
_NAMED_LOCK = threading.Lock()


def memory_store(name: str, max_bytes: int = MAX_BYTES) -> MemoryStore:
    """The store of this process that is called `name`, made at the first call.

    An empty name is nobody's: each call makes a new store.
    """
    if not name:
        return MemoryStore(max_bytes)
    with _NAMED_LOCK:
        if name not in _NAMED:
            _NAMED[name] = MemoryStore(max_bytes)
        return _NAMED[name]
