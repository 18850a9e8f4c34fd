"""Lifts the entries of a namespace from the cold tier into the store, as far as its memory goes.

Before a night rather than in it: a job that reads the cold tier waits for a disk or an object store
where it could have waited for Redis. What is in the store stays as it is, and an entry that is lifted
ends when it would have ended.

A purge that begins meanwhile ends it: a purge waits for a minute between saying what may not come back
and deleting it, and here that is looked at before each write.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import final

from kvspark.cache.key.key import NamespaceKey, keys_kept, namespace_prefix
from kvspark.cache.stage.admission import ENVELOPE_BYTES, entry_memory_bytes
from kvspark.cache.stage.tombstones import Tombstones
from kvspark.errors import (
    CacheRequiredError,
    SecretError,
    StoreError,
    StoreFullError,
    StoreRefusedError,
)
from kvspark.store.base import Store
from kvspark.store.deadline import Deadline
from kvspark.store.files.cold_entries import cold_entries
from kvspark.store.files.segment import NEVER_MS, Record
from kvspark.store.files.segment_folder import Folder, now_ms
from kvspark.store.many import get_many, set_many
from kvspark.store.redis.server_info import interview

CALL_S = 30.0
"""What one call to the store may take: nobody waits for a warm."""

FILLED = 0.9
"""Of maxmemory: the rest is for what the night writes."""

_CALL_KEYS = 64
"""Written with one time to live, the shortest of them: of a window of 4,096 that is sorted by it, a
64th of what they differ by is lost."""


@final
@dataclass(frozen=True, slots=True)
class Warmed:
    """What a warm did."""

    entries: int
    """Entries that were lifted."""
    memory_bytes: int
    """About what they take in the store."""
    present: int
    """Entries that were in the store before."""
    is_full: bool
    """True if there was no room for more."""


@final
class Warm:
    """The entries of the namespace `key` in `folder`, on their way to `store`."""

    def __init__(
        self, store: Store, folder: Folder, key: NamespaceKey, tombstones: Tombstones
    ) -> None:
        self._store = store
        self._folder = folder
        self._prefix = namespace_prefix(key)
        self._tombstones = tombstones

    def room_bytes(self) -> int | None:
        """Memory that the store's servers have left; None if they have no limit, or may not be asked.

        Raises:
            CacheRequiredError, SecretError: as `lift`.
        """
        left = 0
        with _told():
            servers = self._store.servers(Deadline.after(CALL_S))
            for server in servers:
                info = interview(server, Deadline.after(CALL_S)).info or {}
                limit = int(info.get("maxmemory", "0"))
                if not limit:
                    return None
                left += max(0, int(FILLED * limit) - int(info.get("used_memory", "0")))
        return left if servers else None

    def lift(self, max_bytes: int) -> Warmed:
        """Lifts what was written last first, until what is lifted takes `max_bytes` of memory.

        Raises:
            CacheRequiredError: the store or the cold tier does not answer, or a purge is under way;
                what was lifted stays.
            SecretError: the store refuses us.
        """
        erased = self._erased()
        entries = size_bytes = present = 0
        is_full = False
        with _told():
            for window in cold_entries(self._folder, self._prefix):
                kept = {key: window[key] for key in keys_kept(window, erased)}
                for part in _parts(kept):
                    if self._erased() != erased:
                        raise CacheRequiredError(
                            "a purge is under way; run kvspark warm again when it has ended"
                        )
                    missing = self._missing(part)
                    present += len(part) - len(missing)
                    fitting = _fitting(missing, max_bytes - size_bytes)
                    taken = self._set(fitting)
                    entries += taken
                    size_bytes += _memory(fitting)
                    is_full = len(fitting) < len(missing) or taken < len(fitting)
                    if is_full:
                        return Warmed(entries, size_bytes, present, is_full)
        return Warmed(entries, size_bytes, present, is_full)

    def close(self) -> None:
        """Lets go of the store."""
        self._store.close()

    def _erased(self) -> frozenset[bytes]:
        erased = self._tombstones.erased()
        if erased is None:
            raise CacheRequiredError(
                "the list of what may not come back cannot be read, so nothing more is lifted; try again"
            )
        return erased

    def _missing(self, part: Mapping[bytes, Record]) -> dict[bytes, Record]:
        keys = [*part]
        values = get_many(self._store, keys, Deadline.after(CALL_S))
        return {k: part[k] for k, value in zip(keys, values, strict=True) if value is None}

    def _set(self, part: Mapping[bytes, Record]) -> int:
        """How many were taken; fewer where the store is full."""
        ends = [each.ends_ms for each in part.values() if each.ends_ms != NEVER_MS]
        ttl_s = (min(ends) - now_ms()) / 1_000 if ends else None
        if not part or (ttl_s is not None and ttl_s <= 0):
            return len(part)
        pairs = [(key, record.value) for key, record in part.items()]
        try:
            return set_many(self._store, pairs, Deadline.after(CALL_S), ttl_s=ttl_s)
        except StoreFullError:
            return 0


def _parts(window: Mapping[bytes, Record]) -> Iterator[dict[bytes, Record]]:
    """`window` in calls of entries that end about when the others do."""
    order = sorted(window, key=lambda key: window[key].ends_ms)
    for at in range(0, len(order), _CALL_KEYS):
        yield {key: window[key] for key in order[at : at + _CALL_KEYS]}


def _fitting(part: Mapping[bytes, Record], max_bytes: int) -> dict[bytes, Record]:
    fitting: dict[bytes, Record] = {}
    for key, record in part.items():
        max_bytes -= _memory({key: record})
        if max_bytes < 0:
            break
        fitting[key] = record
    return fitting


def _memory(part: Mapping[bytes, Record]) -> int:
    sizes: Sequence[int] = [len(each.value) for each in part.values()]
    return sum(entry_memory_bytes(max(0, size - ENVELOPE_BYTES)) for size in sizes)


@contextmanager
def _told() -> Iterator[None]:
    """Turns trouble with the store or the files into an error that is told to a person."""
    try:
        yield
    except StoreRefusedError as exc:
        raise SecretError(f"{exc}") from exc
    except StoreError as exc:
        raise CacheRequiredError(f"{exc}; what was lifted stays, run kvspark warm again") from exc
    except OSError as exc:
        raise CacheRequiredError(
            f"the cold tier cannot be read ({type(exc).__name__}: {exc.strerror}); what was lifted "
            "stays, run kvspark warm again"
        ) from exc
