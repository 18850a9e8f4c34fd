"""Many small segments become few large ones, without what has ended or was deleted.

A job of its own, once a night: `kvspark compact URL`. It keeps all keys in memory. Readers go on meanwhile;
one that comes upon a segment which is gone misses its entries once and lists the folder again. Two
compactions at a time cost space until the next one, and nothing else.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

from kvspark.store.files.segment import DELETED_MS, NEVER_MS, Record, Segment, packed
from kvspark.store.files.segment_folder import SUFFIX, Folder, now_ms

SEGMENT_BYTES = 256 * 2**20
"""What a large segment has; it is held in memory once while it is made."""

WINDOW_ROWS = 4_096


@final
@dataclass(frozen=True, slots=True)
class Compaction:
    """What one did."""

    segments_before: int
    segments_after: int
    entries: int
    """What is there still."""
    dropped: int
    """Records that had ended, were deleted, or written again later."""


def compact(folder: Folder, *, segment_bytes: int = SEGMENT_BYTES) -> Compaction:
    """Merges all segments of `folder`, and says what that did.

    Raises:
        OSError: a segment cannot be read or written; nothing that is alive is lost.
    """
    names = folder.names()
    if len(names) < 2:
        return Compaction(len(names), len(names), 0, 0)
    seen: set[bytes] = set()
    batch: dict[bytes, Record] = {}
    size_bytes = entries = dropped = written = 0
    read = []
    for name in names:
        try:
            segment = Segment.read(folder.opened(name))
        except ValueError:
            # Somebody may be writing it: it is looked at again the next time.
            continue
        read.append(name)
        for key, record in _records(segment):
            if key in seen or not _is_alive(record):
                dropped += 1
            else:
                batch[key] = record
                size_bytes += len(key) + len(record.value)
                entries += 1
            seen.add(key)
            if size_bytes >= segment_bytes:
                _write(folder, names[0], batch)
                batch, size_bytes, written = {}, 0, written + 1
    if batch:
        _write(folder, names[0], batch)
        written += 1
    # Only now: whoever lists the folder meanwhile finds everything, some of it twice.
    for name in read:
        folder.remove(name)
    return Compaction(len(names), len(names) - len(read) + written, entries, dropped)


def _records(segment: Segment) -> Iterator[tuple[bytes, Record]]:
    rows = range(len(segment.hashes))
    for at in range(0, len(rows), WINDOW_ROWS):
        for row, (key, value) in segment.records(rows[at : at + WINDOW_ROWS]).items():
            yield key, Record(value, int(segment.ends_ms[row]))


def _is_alive(record: Record) -> bool:
    # What is deleted is older than all that is merged here: no segment has the key any more.
    return record.ends_ms != DELETED_MS and (
        record.ends_ms == NEVER_MS or record.ends_ms > now_ms()
    )


def _write(folder: Folder, newest: str, batch: dict[bytes, Record]) -> None:
    # As old as the newest that is in it: what is written from now on comes before it.
    stem = newest.partition("-")[0]
    folder.write(f"{stem}-{secrets.token_hex(4)}{SUFFIX}", packed(batch))
