"""A store in files: what outlives the server's memory, on a disk or in an object store.

    <folder>/<nanoseconds since 1970>-<random>.kvseg        immutable segments, see `segment`

- **Read**: the indexes of all segments are kept in memory, 28 bytes an entry; a look-up asks the
  newest first, then reads the records that it found, neighbours together.
- **Write behind**: entries gather in memory and become a segment of SEGMENT_BYTES, written by a thread
  of their own, or what there is after `shelf.HELD_S`, when a task ends (`drain`) or the store is closed. While one is being
  written and another is full, further entries are not taken: a computation does not wait for a disk.
- **Delete**: a segment says that the key is gone; the record goes when segments are compacted.
- pyarrow's file systems know no time-outs: they are called in a thread, and a call that runs out of
  time leaves it behind. Until that thread has ended, the store is unavailable.

Others see an entry when its segment is written and they have listed the folder again (REFRESH_S).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import final

from typing_extensions import override

from kvspark.cache.store.base import Store
from kvspark.cache.store.process import PerProcess
from kvspark.cache.store.segment import NEVER_MS, Record
from kvspark.cache.store.segment_folder import Folder, now_ms, store_error
from kvspark.cache.store.shelf import REFRESH_S, Shelf

SEGMENT_BYTES = 16 * 2**20
"""Bytes that are gathered for one segment; twice that are held while one is being written."""

FLUSH_S = 2.0
"""How long the end of a task waits for its last segment; not again while that one is not written."""


@final
class ColdStore(Store):
    """Bytes under keys in the segments of `folder`; a call takes `timeout_s` unless it says else."""

    def __init__(
        self, folder: Folder, *, timeout_s: float, segment_bytes: int = SEGMENT_BYTES
    ) -> None:
        self._timeout_s = timeout_s
        self._place = str(folder)
        self._shelf = PerProcess(lambda: Shelf(folder, segment_bytes, self._write_later), folder)

    @override
    def get_many(
        self, keys: Sequence[bytes], *, timeout_s: float | None = None
    ) -> list[bytes | None]:
        ends = self._ends(timeout_s)
        with self._shelf.turn(ends) as shelf:
            found = shelf.get(list(dict.fromkeys(keys)), ends)
        return [found.get(key) for key in keys]

    @override
    def set_many(
        self,
        entries: Sequence[tuple[bytes, bytes]],
        *,
        ttl_s: float | None,
        timeout_s: float | None = None,
    ) -> int:
        ends_ms = NEVER_MS if ttl_s is None else now_ms() + max(1, round(ttl_s * 1_000))
        with self._shelf.turn(self._ends(timeout_s)) as shelf:
            return sum(shelf.put(key, Record(value, ends_ms)) for key, value in entries)

    @override
    def delete_many(self, keys: Sequence[bytes], *, timeout_s: float | None = None) -> int:
        ends = self._ends(timeout_s)
        with self._shelf.turn(ends) as shelf:
            present = shelf.get(list(dict.fromkeys(keys)), ends)
            if present:
                shelf.delete(present, ends)
        return len(present)

    @override
    def scan(self, prefix: bytes, *, timeout_s: float | None = None) -> Iterator[list[bytes]]:
        # Whole files are read, which no job does: only what is asked for afterwards is bounded.
        with self._shelf.turn(None) as shelf:
            parts = shelf.every_key()
        try:
            for keys in parts:
                wanted = [key for key in dict.fromkeys(keys) if key.startswith(prefix)]
                ends = self._ends(timeout_s)
                with self._shelf.turn(ends) as shelf:
                    found = shelf.get(wanted, ends)
                # Without the turn: whoever searches deletes what was found.
                yield [*found]
        except (OSError, ValueError) as exc:
            raise store_error(exc, self._place) from exc

    @property
    @override
    def remembered_s(self) -> float:
        return REFRESH_S

    @override
    def ping(self, *, timeout_s: float | None = None) -> None:
        ends = self._ends(timeout_s)
        with self._shelf.turn(ends) as shelf:
            shelf.check(ends)

    @override
    def drain(self) -> Mapping[str, int]:
        with self._shelf.turn(None) as shelf:
            shelf.flush(time.monotonic() + FLUSH_S)
            return shelf.drained()

    @override
    def close(self) -> None:
        with self._shelf.turn(None) as shelf:
            shelf.flush(time.monotonic() + FLUSH_S)
            shelf.forget()

    def _write_later(self, after_s: float) -> threading.Timer:
        timer = threading.Timer(after_s, self._write_old)
        timer.daemon = True
        timer.start()
        return timer

    def _write_old(self) -> None:
        with self._shelf.turn(None) as shelf:
            shelf.write_old()

    def _ends(self, timeout_s: float | None) -> float:
        return time.monotonic() + (self._timeout_s if timeout_s is None else timeout_s)
