"""Which rows were seen before: one byte a row, in tables of the store that all workers share.

    table    key as an entry's (`kvspark.cache.key`), of the kind "d"; one for each hash tag and time
    place    eight bytes of the digest, modulo the table's length
    mark     four other bytes of the digest, 1 to 255

A row was seen if its mark is at its place. It then leaves its own there, so what a table remembers is
what came last: a table never fills up, it forgets. Of a row that is new, one in 255 looks as if it
had been seen; one that was seen and whose place another row took since looks new. Both are harmless.
A Bloom filter takes several bits a row, in several operations, and lets everything in once it is full.

After the time that an entry lives new tables are begun, so that no sighting lives longer.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import final

import numpy as np
import numpy.typing as npt

from kvspark.cache.guard import Guard
from kvspark.cache.key import TAGS, NamespaceKey, sighting_keys
from kvspark.cache.store.sightings import Marks, Sightings
from kvspark.cache.store.trouble import REFUSED
from kvspark.errors import StoreRefusedError
from kvspark.fingerprint import DIGEST_BYTES

_LOG = logging.getLogger(__name__)

Mask = npt.NDArray[np.bool_]

_OF_THE_ALLOCATOR = 64
"""Bytes that Redis adds to a string, at the most: with them a power of two stays in its size class."""

_PLACE = slice(16, 24)
_MARK = slice(24, 28)
"""Of a digest: bytes that are neither a subject's mark nor what a threshold looks at."""


def _now_s() -> float:
    return datetime.now(timezone.utc).timestamp()


@final
class RowSightings:
    """The sightings of one namespace's rows, of all of its stages.

    size_bytes: what all tables of one time take.
    window_s: the seconds of one time.
    """

    def __init__(
        self,
        guard: Guard,
        sightings: Sightings,
        key: NamespaceKey,
        *,
        size_bytes: int,
        window_s: float,
        now_s: Callable[[], float] = _now_s,
    ) -> None:
        self._guard = guard
        self._sightings = sightings
        self._key = key
        self._table_bytes = size_bytes // TAGS - _OF_THE_ALLOCATOR
        self._window_s = window_s
        self._now_s = now_s
        self._is_refused = False
        self._time_number = -1
        self._keys: list[bytes] = []

    def seen(self, digests: Sequence[bytes]) -> Mask:
        """Which of the rows were seen before now; all of them have been afterwards.

        None of them in case of trouble: what cannot be asked takes no entry either. All of them, for
        the life of this process, where the store refuses it. Never raises for trouble with the store.
        """
        if self._is_refused or not digests:
            return np.ones(len(digests), dtype=np.bool_)
        time_number = int(self._now_s() // self._window_s)
        if time_number != self._time_number:
            self._time_number, self._keys = time_number, sighting_keys(self._key, time_number)
        table = np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, DIGEST_BYTES)
        places = (_numbers(table, _PLACE, "<u8") % np.uint64(self._table_bytes - 1)).tolist()
        marks = (_numbers(table, _MARK, "<u4") % np.uint64(255) + np.uint64(1)).tolist()
        rows_of: defaultdict[int, list[int]] = defaultdict(list)
        for row, tag in enumerate((table[:, 0] >> 2).tolist()):
            rows_of[tag].append(row)
        tables = [
            Marks(self._keys[tag], [places[row] for row in rows], [marks[row] for row in rows])
            for tag, rows in rows_of.items()
        ]
        ends_s = int((time_number + 1) * self._window_s) + 1
        before = self._guard.ask(lambda left_s: self._marked(tables, ends_s, left_s))
        seen = np.zeros(len(digests), dtype=np.bool_)
        if before is not None:
            for rows, table_of, old in zip(rows_of.values(), tables, before, strict=True):
                if old is not None:
                    seen[rows] = [
                        was == mark for was, mark in zip(old, table_of.marks, strict=True)
                    ]
        return np.logical_or(seen, self._is_refused)

    def _marked(
        self, tables: Sequence[Marks], ends_s: int, left_s: float
    ) -> list[Sequence[int] | None]:
        try:
            return self._sightings.mark_many(
                tables, size_bytes=self._table_bytes, ends_s=ends_s, timeout_s=left_s
            )
        except StoreRefusedError as exc:
            # Entries may be written all the same, so this does not stop them.
            self._is_refused = True
            self._guard.count({REFUSED: 1})
            _LOG.warning("the doorkeeper lets every row in, in this process: %s", exc)
            return [None] * len(tables)


def _numbers(table: npt.NDArray[np.uint8], part: slice, dtype: str) -> npt.NDArray[np.uint64]:
    return np.ascontiguousarray(table[:, part]).view(dtype).ravel().astype(np.uint64)
