"""What one process knows of the segments, and what it has not written yet."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import final

import numpy as np
import pyarrow as pa

from kvspark.errors import StoreError, StoreUnavailableError
from kvspark.store.deadline import NOW, Deadline
from kvspark.store.files.bounded_call import Errand
from kvspark.store.files.segment import DELETED_MS, NEVER_MS, Record, Segment, hashes_of, packed
from kvspark.store.files.segment_folder import Folder, new_name, now_ms, store_error
from kvspark.store.trouble import FULL, TIMEOUT, reason_of

REFRESH_S = 30.0
"""How old the list of segments may be."""

HELD_S = 30.0
"""How long what was taken waits for more before it is written."""

MOST_HELD_S = 60.0
"""What is not written by then never is, or is removed again: when a purge has waited for so long, all is
there that will be."""

WINDOW_ROWS = 4_096
"""Records that are read at a time where all are read."""


@final
class Shelf:
    """The segments of `folder`, and up to `segment_bytes` that are to be one.

    `call_later` calls `write_old` after so many seconds, in a thread that may. Its methods are called by
    one thread at a time. `_segments` belongs to the thread of `_reads`.
    """

    def __init__(
        self, folder: Folder, segment_bytes: int, call_later: Callable[[float], threading.Timer]
    ) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._call_later = call_later
        self._reads = Errand()
        self._writes = Errand()
        self._segments: dict[str, Segment | None] = {}
        self._listed_at = 0.0
        self._is_stale = True
        self._pending: dict[bytes, Record] = {}
        self._pending_bytes = 0
        self._pending_since = 0.0
        self._timer: threading.Timer | None = None
        self._being_written: dict[bytes, Record] = {}
        self._written_ns = 0
        self._failure: StoreError | None = None
        self._is_late = False
        self._trouble: Counter[str] = Counter()
        self._trouble_lock = threading.Lock()

    def get(self, keys: Sequence[bytes], deadline: Deadline) -> dict[bytes, bytes]:
        """The values of those of `keys` that are there.

        Raises:
            StoreError: the files did not answer.
        """
        found: dict[bytes, Record] = {}
        rest = []
        for key in keys:
            record = self._pending.get(key) or self._being_written.get(key)
            if record is not None:
                found[key] = record
            else:
                rest.append(key)
        if rest:
            try:
                found |= self._reads.ask(lambda: self._from_segments(rest), deadline)
            except Exception as exc:
                raise store_error(exc, self._folder) from exc
        now = now_ms()
        return {key: each.value for key, each in found.items() if _is_alive(each, now)}

    def put(self, key: bytes, record: Record) -> bool:
        """Takes an entry to be written; False if there is no room for it."""
        size_bytes = len(key) + len(record.value)
        if self._pending_bytes + size_bytes > self._segment_bytes and not self._start_writing():
            self._note(FULL)
            return False
        self._starts_waiting()
        self._pending[key] = record
        self._pending_bytes += size_bytes
        return True

    def delete(self, keys: Mapping[bytes, bytes], deadline: Deadline) -> None:
        """Makes `keys` missing, here and for others.

        Raises:
            StoreError: some may be there still.
        """
        self._starts_waiting()
        self._pending |= dict.fromkeys(keys, Record(b"", DELETED_MS))
        is_written = self.flush(deadline)
        if self._failure is not None:
            raise self._failure
        if not is_written:
            raise StoreUnavailableError(f"{self._folder}: deleting was not done in time")

    def every_key(self) -> Iterator[list[bytes]]:
        """All keys, some at a time, also of what has ended or is named again; needs no turn.

        Raises:
            OSError, ValueError: a segment cannot be read.
        """
        return chain([[*self._pending, *self._being_written]], _written_keys(self._folder))

    def write_old(self) -> None:
        """Begins to write what was taken `HELD_S` ago, and nobody has written since."""
        is_old = time.monotonic() - self._pending_since >= HELD_S
        if self._pending and is_old and not self._start_writing():
            self._timer = self._call_later(HELD_S)

    def flush(self, deadline: Deadline) -> bool:
        """True if all that was taken is written at `deadline`, or was given up."""
        if self._is_late:
            deadline = NOW
        if self._pending and self._writes.wait(deadline):
            self._start_writing()
        is_done = self._writes.wait(deadline) and not self._pending
        self._is_late = not is_done
        return is_done

    def check(self, deadline: Deadline) -> None:
        """Returns if the folder is there, or can be made.

        Raises:
            StoreError: it cannot be used.
        """
        try:
            self._reads.ask(self._folder.make, deadline)
        except Exception as exc:
            raise store_error(exc, self._folder) from exc

    def drained(self) -> dict[str, int]:
        """By reason: what did not go as it should since the last time."""
        with self._trouble_lock:
            drained = dict(self._trouble)
            self._trouble.clear()
        return drained

    def forget(self) -> None:
        """Closes all files, unless one of them hangs."""
        if self._reads.wait(NOW):
            self._segments.clear()
            self._is_stale = True

    # ------------------------------------------------------------ in the thread that reads

    def _from_segments(self, keys: Sequence[bytes]) -> dict[bytes, Record]:
        if self._is_stale or time.monotonic() - self._listed_at >= REFRESH_S:
            self._list()
        found: dict[bytes, Record] = {}
        missing = list(keys)
        hashes = hashes_of(keys)
        for name, segment in list(self._segments.items()):
            if not missing or segment is None:
                continue
            rows = segment.find(hashes)
            wanted = {int(row): place for place, row in enumerate(rows) if row >= 0}
            if not wanted:
                continue
            try:
                records = segment.records(list(wanted))
            except (OSError, pa.ArrowException) as exc:
                # Compacted away, or damaged: what it had is missing.
                self._segments[name] = None
                self._is_stale = True
                self._note(reason_of(store_error(exc, self._folder)))
                continue
            for row, (key, value) in records.items():
                if key == missing[wanted[row]]:
                    found[key] = Record(value, int(segment.ends_ms[row]))
            kept = [place for place, key in enumerate(missing) if key not in found]
            missing = [missing[place] for place in kept]
            hashes = hashes[np.array(kept, dtype=np.int64)]
        return found

    def _list(self) -> None:
        # First, so that a segment that is written meanwhile is listed the next time.
        self._is_stale = False
        known = self._segments
        self._segments = {}
        for name in self._folder.names():
            self._segments[name] = known[name] if name in known else self._read(name)
        self._listed_at = time.monotonic()

    def _read(self, name: str) -> Segment | None:
        try:
            return Segment.read(self._folder.opened(name))
        except FileNotFoundError:
            return None
        except ValueError:
            self._note("damaged")
            return None

    # ------------------------------------------------------------ in the thread that writes

    def _start_writing(self) -> bool:
        if not self._pending:
            return True
        if not self._writes.wait(NOW):
            return False
        batch = self._taken()
        if not batch:
            return True
        name, since = new_name(self._written_ns), self._pending_since

        def write() -> None:
            try:
                self._write(name, batch, since)
            except Exception as exc:  # noqa: BLE001 - Nobody waits for it: it is counted.
                self._failure = store_error(exc, self._folder)
                self._note(reason_of(self._failure))
            self._is_stale = True
            self._being_written = {}

        self._being_written = batch
        self._written_ns = int(name.partition("-")[0])
        return self._writes.send(write)

    def _write(self, name: str, batch: Mapping[bytes, Record], since: float) -> None:
        self._folder.write(name, packed(batch))
        if time.monotonic() - since > MOST_HELD_S:
            self._folder.remove(name)
            raise TimeoutError(f"writing {name} took too long")

    def _starts_waiting(self) -> None:
        if not self._pending:
            self._pending_since = time.monotonic()
            self._timer = self._call_later(HELD_S)

    def _taken(self) -> dict[bytes, Record]:
        """What was taken and is to be written; nothing is pending afterwards."""
        taken, self._pending = self._pending, {}
        self._pending_bytes = 0
        self._failure = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if time.monotonic() - self._pending_since <= MOST_HELD_S:
            return taken
        self._failure = StoreUnavailableError(f"{self._folder}: an earlier file is not written yet")
        self._note(TIMEOUT)
        return {}

    def _note(self, reason: str) -> None:
        with self._trouble_lock:
            self._trouble[reason] += 1


def _is_alive(record: Record, now: int) -> bool:
    return record.ends_ms == NEVER_MS or record.ends_ms > now


def _written_keys(folder: Folder) -> Iterator[list[bytes]]:
    for name in folder.names():
        segment = Segment.read(folder.opened(name))
        for at in range(0, len(segment.hashes), WINDOW_ROWS):
            rows = range(at, min(at + WINDOW_ROWS, len(segment.hashes)))
            yield [key for key, _ in segment.records(rows).values()]
