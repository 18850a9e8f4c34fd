"""Digests that were erased and may not come back: a run that is under way would insert them again.

One entry of the namespace lists them. Who inserts looks at it every `REFRESH_S` seconds, and inserts
nothing while it cannot be read; who erases writes it, waits until everybody has looked, and only
then deletes. It is kept for longer than any run takes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import final

import numpy as np

from kvspark.cache.stage.stage_cache import StageCache
from kvspark.fingerprint import DIGEST_BYTES
from kvspark.spec import TensorSpec
from kvspark.store.files.segment_set import MOST_HELD_S
from kvspark.store.process import ProcessLock
from kvspark.store.tiered.tiered import MEMORY_S

IDENTITY = b"kvspark.tombstones"
SPECS = (TensorSpec("digests", "uint8", (None, DIGEST_BYTES)),)

REFRESH_S = 5.0
SETTLE_S = REFRESH_S + max(MEMORY_S, MOST_HELD_S) + 5.0
"""After so long nobody inserts what was listed before: everybody has looked since, past what a worker
keeps in its own memory or has not written to a file, and no insert is so slow."""

TTL_S = 7 * 24 * 3600.0
"""Longer than a run."""

_ROW = [b""]


@final
class Tombstones:
    """What may not be inserted in one namespace; `space` holds the list."""

    def __init__(self, space: StageCache, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._space = space
        self._clock = clock
        self._lock = ProcessLock()
        self._known: frozenset[bytes] = frozenset()
        self._fresh_until = float("-inf")

    def erased(self) -> frozenset[bytes] | None:
        """The digests that may not be inserted; None while that cannot be known.

        Once known, a digest stays for the life of the process.
        """
        now = self._clock()
        with self._lock:
            if now >= self._fresh_until:
                listed = self._read()
                if listed is None:
                    return None
                self._known |= listed
                self._fresh_until = now + REFRESH_S
            return self._known

    def add(self, digests: Sequence[bytes]) -> bool:
        """Lists `digests` too; False if that did not get through, or cannot be read back."""
        listed = self._read()
        if listed is None:
            return False
        wanted = listed | frozenset(digests)
        joined = np.frombuffer(b"".join(sorted(wanted)), dtype=np.uint8).reshape(-1, DIGEST_BYTES)
        self._space.insert(self._space.digests(_ROW), ([joined],), cost_us=0)
        return self._read() == wanted

    def _read(self) -> frozenset[bytes] | None:
        lookup = self._space.reader.lookup(self._space.digester.of(_ROW))
        if not lookup.is_answered:
            return None
        if not lookup.found[0]:
            return frozenset()
        return frozenset(row.tobytes() for row in lookup.columns[0][0])
