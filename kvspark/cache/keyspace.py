"""The entries of one stage in one namespace: rows are looked up and inserted many at a time."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import closing
from copy import copy
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from kvspark.cache.decoding import Decoding
from kvspark.cache.entry import EntryFormat
from kvspark.cache.guard import Guard
from kvspark.cache.header import MISPLACED
from kvspark.cache.inserting import sealed_windows
from kvspark.cache.key import NamespaceKey, RowDigests, StageKeys
from kvspark.cache.lease import RowLeases, StoreLeases
from kvspark.cache.store.leases import Leases
from kvspark.cache.tombstones import Tombstones
from kvspark.spec import Rows
from kvspark.stats import StageStats

TTL_JITTER = 0.1
"""What one night wrote does not expire in one moment."""

_FIRST_GUESS_BYTES = 16_384
"""Of an entry that varies in size, before any was seen."""


@final
@dataclass(frozen=True, slots=True)
class Lookup:
    """What is known of n digests."""

    found: npt.NDArray[np.bool_]
    """(n,): True where the row's tensors were found."""
    columns: tuple[Rows, ...]
    """The found rows in their order, for each tensor of the stage; the caller may write to them."""
    size_bytes: int
    """Bytes that were read from the store."""


@final
class KeySpace:
    """The entries of one stage; made by `Cache.keyspace`."""

    def __init__(
        self,
        guard: Guard,
        key: NamespaceKey,
        identity: bytes,
        entry_format: EntryFormat,
        *,
        ttl_s: float,
        tombstones: Tombstones | None = None,
        leases: Leases | None = None,
        lease_from_s: float = 0.0,
    ) -> None:
        self._guard = guard
        self._tombstones = tombstones
        self._digests = RowDigests(key, identity)
        self._keys = StageKeys(key, identity)
        self._leases = (
            None if leases is None else StoreLeases(guard, leases, self._keys, from_s=lease_from_s)
        )
        self._format = entry_format
        self._ttl_s = ttl_s
        self._expected_bytes = (
            entry_format.entry_bytes if entry_format.is_fixed else _FIRST_GUESS_BYTES
        )

    @property
    def guard(self) -> Guard:
        """The store, which never fails here."""
        return self._guard

    @property
    def keys(self) -> StageKeys:
        """From a digest to the key of its entry."""
        return self._keys

    @property
    def format(self) -> EntryFormat:
        """From rows to the bytes of entries, and back."""
        return self._format

    @property
    def failures(self) -> int:
        """Calls to the store that did not get through so far."""
        return self._guard.failures

    def digests(
        self, rows: Sequence[bytes], subjects: Sequence[bytes] | None = None
    ) -> list[bytes]:
        """The digest, 32 bytes, of each row's canonical bytes: equal for equal rows only.

        With `subjects`, the canonical bytes of whose row each is: equal for equal rows of one subject only.
        """
        return self._digests.of(rows, subjects)

    def lookup(self, digests: Sequence[bytes]) -> Lookup:
        """The rows of `digests` that the store has; whatever goes wrong is a miss.

        Guarantees: what is found is what `insert` was given, bit for bit. Never raises for
        trouble with the store, and ends within the cache's time-out.
        """
        decoding = Decoding(self._format, digests)
        keys = self._keys.of(digests)
        with closing(self._guard.read(keys, value_bytes=self._expected_bytes)) as parts:
            decoded = decoding.of(parts)
        if decoded.reasons:
            self._guard.count(decoded.reasons)
            if MISPLACED in decoded.reasons:
                self._guard.distrust()
        if self._guard.is_owed:
            self._guard.weigh(decoding.saved_us() / 1e6)
        if decoding.present and not self._format.is_fixed:
            self._expected_bytes = decoding.size_bytes // decoding.present
        return Lookup(decoded.found, decoded.columns, decoding.size_bytes)

    def insert(self, digests: Sequence[bytes], columns: tuple[Rows, ...], *, cost_us: int) -> int:
        """Bytes that were written; rows that could not be stored are computed again some day.

        columns: an array (n, *shape) or a list of n arrays for each tensor of the stage.
        `cost_us` is what computing one row took, in microseconds.

        Guarantees: as `lookup`.

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

    def flush(self) -> StageStats:
        """Nothing: what `insert` writes, it has written when it returns."""
        return StageStats()

    def guarded_by(self, guard: Guard) -> KeySpace:
        """These entries, with another guard and its store."""
        other = copy(self)
        other._guard = guard  # noqa: SLF001 - a copy of this
        return other

    def leases(self) -> RowLeases | None:
        """Who computes which row; None where the store has no leases, or nobody wants any."""
        return self._leases

    def _erased(self) -> frozenset[bytes] | None:
        """Digests that may not be inserted; None if nothing may be, because they are not known."""
        return frozenset() if self._tombstones is None else self._tombstones.erased()
