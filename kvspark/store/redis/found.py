"""A Redis store whose server is found when it is called: sentinels name it, or it is started.

A call that did not get through, or was refused because the server is a replica by now, is made once
more where there is another server, in the time that is left. A call of many windows is, as long as none
of its values came and none of its entries was taken.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from typing_extensions import override

from kvspark.errors import StoreFullError, StoreUnavailableError
from kvspark.store.base import Counts, Entries, Keys, Parts
from kvspark.store.deadline import NEVER, Deadline
from kvspark.store.endpoint import Endpoint
from kvspark.store.process import PerProcess
from kvspark.store.redis.redis_base import CommandedStore
from kvspark.store.redis.replay import Repeatable
from kvspark.store.redis.server import RedisStore

T = TypeVar("T")
W = TypeVar("W")


class Finder(ABC):
    """Where the server is; made for one process, and used by one thread at a time."""

    @abstractmethod
    def store(self, deadline: Deadline) -> RedisStore:
        """The server, looked for if it is not known.

        Raises:
            StoreError: it was not found.
        """

    @abstractmethod
    def other(self, failed: RedisStore, deadline: Deadline) -> RedisStore | None:
        """Another server than the one that `failed`; None if there is none now."""

    @abstractmethod
    def close(self) -> None:
        """Lets go of the server; never raises."""


class FoundStore(CommandedStore, ABC):
    """Bytes under keys on the server that a finder finds, one finder a process."""

    def __init__(self, make: Callable[[], Finder], place: object) -> None:
        self._finder = PerProcess(make, place)

    @override
    def read(self, windows: Iterable[Keys], deadline: Deadline, *, value_bytes: int = 0) -> Parts:
        yield from self._ask_each(
            windows,
            lambda store, some: store.read(some, deadline, value_bytes=value_bytes),
            deadline,
        )

    @override
    def write(
        self, windows: Iterable[Entries], deadline: Deadline, *, ttl_s: float | None
    ) -> Counts:
        yield from self._ask_each(
            windows, lambda store, some: store.write(some, deadline, ttl_s=ttl_s), deadline
        )

    @override
    def delete(self, keys: Keys, deadline: Deadline) -> int:
        if not keys:
            return 0
        return self._ask(lambda store: store.delete(keys, deadline), deadline)

    @override
    def scan(self, prefix: bytes, *, each_s: float) -> Iterator[list[bytes]]:
        yield from self._ask(
            lambda store: list(store.scan(prefix, each_s=each_s)), Deadline.after(each_s)
        )

    @override
    def ping(self, deadline: Deadline) -> None:
        self._ask(lambda store: store.ping(deadline), deadline)

    @override
    def servers(self, deadline: Deadline) -> list[Endpoint]:
        return self._ask(lambda store: store.servers(deadline), deadline)

    @override
    def ask_each(
        self, keys: Sequence[bytes], commands: Sequence[bytes], deadline: Deadline
    ) -> list[Any]:
        return self._ask(lambda store: store.ask_each(keys, commands, deadline), deadline)

    @override
    def close(self) -> None:
        with self._finder.turn(NEVER) as finder:
            finder.close()

    def _ask(self, question: Callable[[RedisStore], T], deadline: Deadline) -> T:
        with self._finder.turn(deadline) as finder:
            store = finder.store(deadline)
            try:
                return question(store)
            except (StoreUnavailableError, StoreFullError):
                other = finder.other(store, deadline)
                if other is None:
                    raise
            return question(other)

    def _ask_each(
        self,
        windows: Iterable[W],
        question: Callable[[RedisStore, Iterable[W]], Iterator[T]],
        deadline: Deadline,
    ) -> Iterator[T]:
        """As `_ask`, unless something came of the call before it failed."""
        repeatable = Repeatable(windows)
        with self._finder.turn(deadline) as finder:
            store = finder.store(deadline)
            try:
                for answer in question(store, repeatable):
                    repeatable.settle()
                    yield answer
                    del answer  # the next part comes into its memory
            except (StoreUnavailableError, StoreFullError):
                other = finder.other(store, deadline)
                if other is None or repeatable.is_settled:
                    raise
            else:
                return
            yield from question(other, repeatable)
