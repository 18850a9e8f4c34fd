"""Which rows may take room in the store, where there is room for a part of them only.

A nightly scan of more than fits is the worst case of every eviction policy: each entry is evicted
just before it is asked for again. Of twice what fits, a server with LRU answers a quarter of the
look-ups, one with LFU a third. Here the digest decides: the rows whose digest lies below a threshold
are remembered, every night the same ones, and the others are never asked for. What fits is then what
hits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import final

import numpy as np
import numpy.typing as npt

from kvspark.cache.stage.lease import AdmittedLeases
from kvspark.cache.stage.stage_cache import Lookup, Reader, StageCache, Writer
from kvspark.spec import Rows

FILLED = 0.95
"""Of a budget; the rest is for the server's own growth."""

_PER_KEY_BYTES = 144
"""A key of 27 bytes with its expiry: what `used_memory` of Redis 7 grew by, beyond the value, over
4,096 keys. It was 128 to 144."""

ENVELOPE_BYTES = 84
"""The header of an entry with one tensor, its nonce and its tag; 20 less in clear."""

_STEPS = 4
"""jemalloc has four sizes in each power of two, and a value takes the next one."""

_DECIDING = slice(28, 32)
"""The bytes of a digest that decide; the first ones choose a cluster's slot."""

TurnedAway = Callable[[int], None]


def _unheard(rows: int) -> None:
    """Nobody counts."""


def entry_memory_bytes(payload_bytes: int) -> int:
    """Bytes of memory that an entry of `payload_bytes` takes in Redis, its key and expiry included."""
    value_bytes = payload_bytes + ENVELOPE_BYTES
    step = max(16, 1 << max(0, (value_bytes - 1).bit_length() - 1)) // _STEPS
    return -(-value_bytes // step) * step + _PER_KEY_BYTES


def affordable_share(budget_bytes: int, needed_bytes: int) -> float:
    """The share of rows that fit into `budget_bytes`, if all would take `needed_bytes`; 0 to 1."""
    if needed_bytes <= 0:
        return 1.0
    return min(1.0, max(0.0, FILLED * budget_bytes / needed_bytes))


def admitted(cache: StageCache, share: float, turned_away: TurnedAway = _unheard) -> StageCache:
    """`cache`, or of its rows the part that `share` admits.

    `turned_away` is told how many rows were computed and not written, call by call.
    """
    if share >= 1:
        return cache
    admits = Threshold(share)
    return replace(
        cache,
        reader=AdmittedReader(cache.reader, admits),
        writer=AdmittedWriter(cache.writer, admits, turned_away),
        leases=cache.leases and AdmittedLeases(cache.leases, admits),
        ahead=cache.ahead and AdmittedReader(cache.ahead, admits),
    )


def deciding(digests: Sequence[bytes]) -> npt.NDArray[np.float64]:
    """For each digest the share above which it is admitted, 0 to 1."""
    return _numbers(digests) / 2.0**32


def _numbers(digests: Sequence[bytes]) -> npt.NDArray[np.uint32]:
    return np.frombuffer(b"".join([digest[_DECIDING] for digest in digests]), dtype="<u4")


@final
class Threshold:
    """Admits a share of all digests, always the same ones."""

    def __init__(self, share: float) -> None:
        self._below = int(share * 2**32)

    def __call__(self, digests: Sequence[bytes]) -> npt.NDArray[np.bool_]:
        """Which of `digests` are admitted."""
        return _numbers(digests) < self._below


@final
class AdmittedReader:
    """Looks up the rows that are admitted; the others are never stored, and misses."""

    def __init__(self, reader: Reader, admits: Threshold) -> None:
        self._reader = reader
        self._admits = admits

    def lookup(self, digests: Sequence[bytes]) -> Lookup:
        """What is known of the digests."""
        asked = self._admits(digests)
        lookup = self._reader.lookup([digests[i] for i in np.flatnonzero(asked).tolist()])
        asked[asked] = lookup.found
        return replace(lookup, found=asked)


@final
class AdmittedWriter:
    """Stores the rows that are admitted."""

    def __init__(self, writer: Writer, admits: Threshold, turned_away: TurnedAway) -> None:
        self._writer = writer
        self._admits = admits
        self._turned_away = turned_away

    def insert(self, digests: Sequence[bytes], columns: tuple[Rows, ...], *, cost_us: int) -> int:
        """Bytes that were written."""
        places = np.flatnonzero(self._admits(digests)).tolist()
        self._turned_away(len(digests) - len(places))
        if not places:
            return 0
        kept: tuple[Rows, ...] = tuple(
            [rows[i] for i in places] if isinstance(rows, list) else rows[places]
            for rows in columns
        )
        return self._writer.insert([digests[i] for i in places], kept, cost_us=cost_us)
