"""All entries of a cold tier, the newest segments first: for `kvspark warm`, never for a job."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import numpy as np

from kvspark.store.files.segment import DELETED_MS, NEVER_MS, Record, Segment
from kvspark.store.files.segment_folder import Folder, now_ms

WINDOW_ROWS = 4_096
WINDOW_BYTES = 64 * 2**20
"""What is read at a time, and held."""


def cold_entries(folder: Folder, prefix: bytes) -> Iterator[dict[bytes, Record]]:
    """What is alive in `folder` under keys that begin with `prefix`, some at a time, each key once.

    Keys are kept in memory until the end. A segment that is cut or being written is left out.

    Raises:
        OSError: a segment cannot be read.
    """
    seen: set[bytes] = set()
    for name in folder.names():
        with closing(folder.opened(name)) as file:
            try:
                segment = Segment.read(file)
            except ValueError:
                continue
            for rows in _windows(segment):
                found: dict[bytes, Record] = {}
                for row, (key, value) in segment.records(rows).items():
                    if not key.startswith(prefix) or key in seen:
                        continue
                    # What is deleted or has ended hides what is older.
                    seen.add(key)
                    record = Record(value, int(segment.ends_ms[row]))
                    if _is_alive(record):
                        found[key] = record
                if found:
                    yield found


def _is_alive(record: Record) -> bool:
    return record.ends_ms != DELETED_MS and (
        record.ends_ms == NEVER_MS or record.ends_ms > now_ms()
    )


def _windows(segment: Segment) -> Iterator[list[int]]:
    """The rows of `segment`, in the order in which they lie, as many as are read at a time."""
    window: list[int] = []
    size_bytes = 0
    for row in np.argsort(segment.offsets).tolist():
        size = int(segment.sizes[row])
        if window and (len(window) == WINDOW_ROWS or size_bytes + size > WINDOW_BYTES):
            yield window
            window, size_bytes = [], 0
        window.append(row)
        size_bytes += size
    if window:
        yield window
