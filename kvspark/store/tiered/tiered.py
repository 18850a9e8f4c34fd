"""A store of several stores, the fastest first: memory of the process, servers, files.

    read     asks each tier for what the tiers before it lack, and copies what it finds upwards
    write    goes to every tier
    delete, ping, drain and close as well

A call is an error only where no shared tier did its part and nothing was found: what is in memory
is worth having while the server is away, and what a server has while the files are. A tier that
fails three times is left alone for half a minute.

What another process deletes stays readable in this one's memory for `MEMORY_S` at most.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import final

from typing_extensions import override

from kvspark.errors import StoreError
from kvspark.store.base import Counts, Entries, Keys, Parts, Store
from kvspark.store.deadline import NEVER, Deadline
from kvspark.store.endpoint import Endpoint
from kvspark.store.leases import Leases
from kvspark.store.many import get_many
from kvspark.store.memory.memory import MemoryStore
from kvspark.store.process import PerProcess
from kvspark.store.tiered.tier import Tier
from kvspark.store.trouble import reason_of, worst

MEMORY_S = 60.0
"""How long a copy in this process's memory is believed. Keys that a job looks up twice, it looks up
within seconds; and an entry that is erased elsewhere must not be seen here for long."""


@final
class TieredStore(Store):
    """Bytes under keys in `tiers`, of which at least one is shared."""

    def __init__(self, tiers: Sequence[Tier]) -> None:
        self.tiers = tiers
        self._trouble = PerProcess[Counter[str]](Counter, "the tiers")

    @override
    def read(self, windows: Iterable[Keys], deadline: Deadline, *, value_bytes: int = 0) -> Parts:
        for keys in windows:
            deadline.check("the tiers")
            yield self._get(keys, deadline)

    @override
    def write(
        self, windows: Iterable[Entries], deadline: Deadline, *, ttl_s: float | None
    ) -> Counts:
        for entries in windows:
            deadline.check("the tiers")
            yield self._set(entries, deadline, ttl_s)

    def _get(self, keys: Keys, deadline: Deadline) -> list[bytes | None]:
        trouble: list[StoreError] = []
        values: list[bytes | None] = [None] * len(keys)
        missing = list(range(len(keys)))
        has_answered = not keys
        for number, tier in enumerate(self.tiers):
            if not missing:
                break
            wanted = [keys[place] for place in missing]
            found = tier.get_many(wanted, self._share(number, deadline), trouble)
            if found is None:
                continue
            has_answered |= tier.is_shared
            for place, value in zip(missing, found, strict=True):
                values[place] = value
            self._copy(number, wanted, found, deadline)
            missing = [place for place in missing if values[place] is None]
        self._end(trouble, is_error=not has_answered and len(missing) == len(keys))
        return values

    def _set(self, entries: Entries, deadline: Deadline, ttl_s: float | None) -> int:
        trouble: list[StoreError] = []
        taken = 0
        for number, tier in enumerate(self.tiers):
            kept_s = ttl_s if tier.is_shared else min(ttl_s or MEMORY_S, MEMORY_S)
            count = tier.set_many(entries, kept_s, self._share(number, deadline), trouble)
            if tier.is_shared:
                taken = max(taken, count)
        self._end(trouble, is_error=not taken)
        return taken

    @override
    def delete(self, keys: Keys, deadline: Deadline) -> int:
        # Every tier must have lost them: here trouble with one of them is an error.
        gone: set[bytes] = set()
        for number, tier in enumerate(self.tiers):
            found = get_many(tier.store, keys, self._share(number, deadline))
            gone |= {key for key, value in zip(keys, found, strict=True) if value is not None}
            tier.store.delete(keys, self._share(number, deadline))
        return len(gone)

    @override
    def scan(self, prefix: bytes, *, each_s: float) -> Iterator[list[bytes]]:
        for tier in self.tiers:
            if tier.is_shared:
                yield from tier.store.scan(prefix, each_s=each_s)

    @property
    @override
    def remembered_s(self) -> float:
        return max(tier.store.remembered_s for tier in self.tiers)

    @override
    def ping(self, deadline: Deadline) -> None:
        for number, tier in enumerate(self.tiers):
            tier.store.ping(self._share(number, deadline))

    @override
    def servers(self, deadline: Deadline) -> list[Endpoint]:
        return [each for tier in self.tiers for each in tier.store.servers(deadline)]

    @override
    def leases(self) -> Leases | None:
        offered = [tier.store.leases() for tier in self.tiers if tier.is_shared]
        return next((leases for leases in offered if leases is not None), None)

    @override
    def drain(self) -> Mapping[str, int]:
        with self._trouble.turn(NEVER) as trouble:
            drained = Counter(trouble)
            trouble.clear()
        for tier in self.tiers:
            drained.update(tier.store.drain())
        return drained

    @override
    def close(self) -> None:
        for tier in self.tiers:
            tier.store.close()

    def _copy(
        self, number: int, keys: Keys, found: Sequence[bytes | None], deadline: Deadline
    ) -> None:
        """Puts what tier `number` has into those before it, which lack it."""
        pairs = zip(keys, found, strict=True)
        entries = [(key, value) for key, value in pairs if value is not None]
        for upper in range(number if entries else 0):
            tier = self.tiers[upper]
            # Trouble was counted when it was asked; a copy that is not made costs nothing.
            tier.set_many(entries, tier.copy_ttl_s, self._share(upper, deadline), [])

    def _end(self, trouble: Sequence[StoreError], *, is_error: bool) -> None:
        if not trouble:
            return
        if is_error:
            raise worst(trouble)
        with self._trouble.turn(NEVER) as counts:
            counts.update({reason_of(each) for each in trouble})

    def _share(self, number: int, deadline: Deadline) -> Deadline:
        """One that hangs leaves half of the time to those after it."""
        return deadline if number == len(self.tiers) - 1 else deadline.half()


def process_memory(max_bytes: int) -> Tier:
    """A tier of this process: `max_bytes` of what was used last."""
    return Tier(MemoryStore(max_bytes), copy_ttl_s=MEMORY_S, is_shared=False)
