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
- Arrow's clients of object stores do not survive a fork: a process that is forked opens a store of its own.

Others see an entry when its segment is written and they have listed the folder again (REFRESH_S).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import final

from typing_extensions import override

from kvspark.store.base import Counts, Entries, Keys, Parts, Store
from kvspark.store.deadline import NEVER, Deadline
from kvspark.store.files.segment import NEVER_MS, Record
from kvspark.store.files.segment_folder import Folder, now_ms, store_error
from kvspark.store.files.segment_set import REFRESH_S, Shelf
from kvspark.store.process import PerProcess

SEGMENT_BYTES = 16 * 2**20
"""Bytes that are gathered for one segment; twice that are held while one is being written."""

FLUSH_S = 2.0
"""How long the end of a task waits for its last segment; not again while that one is not written."""


@final
class ColdStore(Store):
    """Bytes under keys in the segments of `folder`."""

    def __init__(self, folder: Folder, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._place = str(folder)
        self._shelf = PerProcess(lambda: Shelf(folder, segment_bytes, self._write_later), folder)

    @override
    def read(self, windows: Iterable[Keys], deadline: Deadline, *, value_bytes: int = 0) -> Parts:
        for keys in windows:
            with self._shelf.turn(deadline) as shelf:
                found = shelf.get(list(dict.fromkeys(keys)), deadline)
            yield [found.get(key) for key in keys]

    @override
    def write(
        self, windows: Iterable[Entries], deadline: Deadline, *, ttl_s: float | None
    ) -> Counts:
        for entries in windows:
            ends_ms = NEVER_MS if ttl_s is None else now_ms() + max(1, round(ttl_s * 1_000))
            with self._shelf.turn(deadline) as shelf:
                taken = sum(shelf.put(key, Record(value, ends_ms)) for key, value in entries)
            yield taken

    @override
    def delete(self, keys: Keys, deadline: Deadline) -> int:
        with self._shelf.turn(deadline) as shelf:
            present = shelf.get(list(dict.fromkeys(keys)), deadline)
            if present:
                shelf.delete(present, deadline)
        return len(present)

    @override
    def scan(self, prefix: bytes, *, each_s: float) -> Iterator[list[bytes]]:
        # Whole files are read, which no job does: only what is asked for afterwards is bounded.
        with self._shelf.turn(NEVER) as shelf:
            parts = shelf.every_key()
        try:
            for keys in parts:
                wanted = [key for key in dict.fromkeys(keys) if key.startswith(prefix)]
                deadline = Deadline.after(each_s)
                with self._shelf.turn(deadline) as shelf:
                    found = shelf.get(wanted, deadline)
                # Without the turn: whoever searches deletes what was found.
                yield [*found]
        except (OSError, ValueError) as exc:
            raise store_error(exc, self._place) from exc

    @property
    @override
    def remembered_s(self) -> float:
        return REFRESH_S

    @override
    def ping(self, deadline: Deadline) -> None:
        with self._shelf.turn(deadline) as shelf:
            shelf.check(deadline)

    @override
    def drain(self) -> Mapping[str, int]:
        with self._shelf.turn(NEVER) as shelf:
            shelf.flush(Deadline.after(FLUSH_S))
            return shelf.drained()

    @override
    def close(self) -> None:
        with self._shelf.turn(NEVER) as shelf:
            shelf.flush(Deadline.after(FLUSH_S))
            shelf.forget()

    def _write_later(self, after_s: float) -> threading.Timer:
        timer = threading.Timer(after_s, self._write_old)
        timer.daemon = True
        timer.start()
        return timer

    def _write_old(self) -> None:
        with self._shelf.turn(NEVER) as shelf:
            shelf.write_old()
