"""A store on a Redis Cluster, with one connection a process and node.

Keys of one hash tag are one `MGET`, and all of a node are sent in one go: our keys have 64 tags,
so that 1,024 of them are 64 commands of 16 keys. With 256 tags they take a quarter longer, and
without any four times as long.

A node that is not there costs its share: its keys are missing, and `drain` says why. Only where
no node answered is the call an error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, final

from typing_extensions import override

from kvspark.errors import StoreError, StoreRefusedError, StoreUnavailableError
from kvspark.store.base import Counts, Entries, Keys, Parts, Store
from kvspark.store.breaker import Breaker
from kvspark.store.cluster.lookup import ClusterLookup
from kvspark.store.cluster.router import Router
from kvspark.store.deadline import NEVER, Deadline
from kvspark.store.endpoint import Endpoint
from kvspark.store.process import PerProcess
from kvspark.store.redis.redis_base import CommandedStore
from kvspark.store.resp.command import PING, scan, sets, unlink
from kvspark.store.resp.slots import Address, by_tag, slot_of_tag, tag_of
from kvspark.store.trouble import reason_of, worst


@final
class ClusterStore(CommandedStore):
    """Bytes under keys on the cluster that `seeds` are some nodes of, all entered alike."""

    def __init__(self, seeds: Sequence[Endpoint]) -> None:
        self._seeds = seeds
        self._place = f"the cluster of {seeds[0]}"
        self._give_up_with({})
        self._trouble = PerProcess[Counter[str]](Counter, self._place)

    @override
    def read(self, windows: Iterable[Keys], deadline: Deadline, *, value_bytes: int = 0) -> Parts:
        with self._router.turn(deadline) as router:
            lookup = ClusterLookup(router, self._place, value_bytes, deadline)
            yield from lookup.run(windows)
        self._count(lookup.failures)

    @override
    def write(
        self, windows: Iterable[Entries], deadline: Deadline, *, ttl_s: float | None
    ) -> Counts:
        for entries in windows:
            yield self._set(entries, deadline, ttl_s)

    def _set(self, entries: Entries, deadline: Deadline, ttl_s: float | None) -> int:
        slots = [slot_of_tag(tag_of(key)) for key, _ in entries]
        commands = [b"".join(pieces) for pieces in sets(entries, ttl_s)]
        replies = self._ask(slots, commands, deadline)
        taken = replies.count(b"OK")
        if taken + sum(isinstance(reply, StoreError) for reply in replies) < len(entries):
            self.close()
            raise StoreUnavailableError(f"{self._place} answered a write with something else")
        return taken

    @override
    def delete(self, keys: Keys, deadline: Deadline) -> int:
        groups = by_tag(keys)
        commands = [unlink([keys[place] for place in places]) for _, places in groups]
        replies = self._ask([slot for slot, _ in groups], commands, deadline)
        return sum(int(reply) for reply in replies if not isinstance(reply, StoreError))

    @override
    def scan(self, prefix: bytes, *, each_s: float) -> Iterator[list[bytes]]:
        deadline = Deadline.after(each_s)
        with self._router.turn(deadline) as router:
            slots = router.primaries(deadline)
        for slot in slots:
            cursor = b""
            while cursor != b"0":
                (reply,) = self._ask([slot], [scan(prefix, cursor or b"0")], Deadline.after(each_s))
                cursor, keys = reply
                yield keys

    @override
    def ping(self, deadline: Deadline) -> None:
        with self._router.turn(deadline) as router:
            slots = router.primaries(deadline)
            replies = router.ask(slots, [PING] * len(slots), deadline)
        for reply in replies:
            # A password that one node refuses is an error of the conf; a node may be away.
            if isinstance(reply, StoreRefusedError):
                raise reply
        self._note(replies)

    @override
    def servers(self, deadline: Deadline) -> list[Endpoint]:
        with self._router.turn(deadline) as router:
            return router.endpoints(deadline)

    @override
    def beside(self) -> Store:
        other = ClusterStore(self._seeds)
        # `drain` of either tells what both had to do without, and a node that one gave up is not
        # waited for by the other.
        other._trouble = self._trouble
        other._give_up_with(self._breakers)
        return other

    @override
    def ask_each(
        self, keys: Sequence[bytes], commands: Sequence[bytes], deadline: Deadline
    ) -> list[Any]:
        return self._ask([slot_of_tag(tag_of(key)) for key in keys], commands, deadline)

    @override
    def drain(self) -> Mapping[str, int]:
        with self._trouble.turn(NEVER) as trouble:
            drained = dict(trouble)
            trouble.clear()
        return drained

    @override
    def close(self) -> None:
        with self._router.turn(NEVER) as router:
            router.nodes.close()

    def _give_up_with(self, breakers: dict[Address, Breaker]) -> None:
        # Nothing that the router holds leadss back here: a store that is dropped is closed at once.
        seeds = self._seeds
        self._breakers = breakers
        self._router = PerProcess(lambda: Router(seeds, breakers), self._place)

    def _ask(
        self, slots: Sequence[int], commands: Sequence[bytes], deadline: Deadline
    ) -> list[Any]:
        """A reply each, a StoreError in the place of one that could not be had.

        Raises:
            StoreError: none could be had.
        """
        if not commands:
            return []
        with self._router.turn(deadline) as router:
            replies = router.ask(slots, commands, deadline)
        self._note(replies)
        return replies

    def _note(self, replies: Sequence[Any]) -> None:
        failures = [reply for reply in replies if isinstance(reply, StoreError)]
        if failures and len(failures) == len(replies):
            raise worst(failures)
        self._count(failures)

    def _count(self, failures: Sequence[StoreError]) -> None:
        """Counts each reason once."""
        if failures:
            with self._trouble.turn(NEVER) as trouble:
                trouble.update({reason_of(each) for each in failures})
