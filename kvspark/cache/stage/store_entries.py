"""Rows of one stage looked up in a store, and inserted: many at a time."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import closing
from typing import final

from kvspark.cache.entry.format import EntryFormat
from kvspark.cache.entry.header import MISPLACED
from kvspark.cache.entry.reader import Decoding
from kvspark.cache.entry.writer import sealed_windows
from kvspark.cache.guard.guard import Guard
from kvspark.cache.key.key import StageKeys
from kvspark.cache.stage.stage_cache import Lookup
from kvspark.cache.stage.tombstones import Tombstones
from kvspark.spec import Rows

TTL_JITTER = 0.1
"""What one night wrote does not expire in one moment."""

_FIRST_GUESS_BYTES = 16_384
"""Of an entry that varies in size, before any was seen."""


@final
class StoreReader:
    """Looks rows up in the guarded store."""

    def __init__(self, guard: Guard, keys: StageKeys, entry_format: EntryFormat) -> None:
        self.guard = guard
        self.keys = keys
        self.format = entry_format
        self._value_bytes = (
            entry_format.entry_bytes if entry_format.is_fixed else _FIRST_GUESS_BYTES
        )

    def lookup(self, digests: Sequence[bytes]) -> Lookup:
        """The rows of `digests` that the store has; whatever goes wrong is a miss.

        Guarantees: what is found is what `insert` was given, bit for bit. Never raises for
        trouble with the store, and ends within the cache's time-out.
        """
        failures = self.guard.failures
        decoding = Decoding(self.format, digests)
        keys = self.keys.of(digests)
        with closing(self.guard.read(keys, value_bytes=self._value_bytes)) as parts:
            decoded = decoding.of(parts)
        if decoded.reasons:
            self.guard.count(decoded.reasons)
            if MISPLACED in decoded.reasons:
                self.guard.distrust()
        saved_us = decoding.saved_us()
        if self.guard.is_owed:
            self.guard.weigh(saved_us / 1e6)
        if decoding.present and not self.format.is_fixed:
            self._value_bytes = decoding.size_bytes // decoding.present
        is_answered = self.guard.failures == failures
        return Lookup(
            decoded.found, decoded.columns, decoding.size_bytes, is_answered, saved_us=saved_us
        )


@final
class StoreWriter:
    """Inserts rows into the guarded store, for about `ttl_s`; none that `tombstones` list."""

    def __init__(
        self,
        guard: Guard,
        keys: StageKeys,
        entry_format: EntryFormat,
        *,
        ttl_s: float,
        tombstones: Tombstones | None,
    ) -> None:
        self._guard = guard
        self._keys = keys
        self._format = entry_format
        self._ttl_s = ttl_s
        self._tombstones = tombstones

    def insert(self, digests: Sequence[bytes], columns: tuple[Rows, ...], *, cost_us: int) -> int:
        """Bytes that were written; rows that could not be stored are computed again some day.

        Guarantees: as `StoreReader.lookup`.

        Raises:
            UsageError: the columns are not such as the stage has; a mistake of the caller.
        """
        erased = self._erased() if len(digests) else None
        if erased is None:  # as long as the store is away: nothing is sealed for nobody
            return 0
        windows = sealed_windows(
            self._format,
            self._keys,
            digests,
            columns,
            cost_us=cost_us,
            erased=erased,
            count=self._guard.count,
        )
        ttl_s = self._ttl_s * random.uniform(1 - TTL_JITTER, 1 + TTL_JITTER)  # noqa: S311
        return sum(self._guard.write(windows, ttl_s=ttl_s))

    def _erased(self) -> frozenset[bytes] | None:
        """Digests that may not be inserted; None if nothing may be, because they are not known."""
        return frozenset() if self._tombstones is None else self._tombstones.erased()
