"""A store on the primary server that sentinels watch over.

The primary is looked up at the first call, and again after one that did not get through or was
refused because the server is a replica by now; where it has moved, the call is made once more in
the time that is left. A call of many windows is, as long as none of its values came and none of its entries
was taken. A connection to a sentinel is closed at once: a process keeps one, to the primary.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar, final

from typing_extensions import override

from kvspark.errors import (
    StoreError,
    StoreFullError,
    StoreRefusedError,
    StoreUnavailableError,
)
from kvspark.store.base import Counts, Entries, Keys, Parts, Store
from kvspark.store.deadline import NEVER, Deadline
from kvspark.store.endpoint import Endpoint
from kvspark.store.process import PerProcess
from kvspark.store.redis.redis_base import CommandedStore
from kvspark.store.redis.replay import Repeatable
from kvspark.store.redis.server import RedisStore
from kvspark.store.redis_error import store_error
from kvspark.store.resp.command import command
from kvspark.store.resp.connection import Line

T = TypeVar("T")
W = TypeVar("W")


@final
class SentinelStore(CommandedStore):
    """Bytes under keys on the primary of `service`.

    `primary` says how it is entered; where it is, the `sentinels` say. Those are entered without
    a password, or with the primary's where they ask for one.
    """

    def __init__(self, sentinels: Sequence[Endpoint], service: str, primary: Endpoint) -> None:
        self._sentinels = sentinels
        self._service = service
        self._primary = primary
        place = f"{service} of the sentinel {sentinels[0]}"
        self._found = PerProcess(lambda: _Found(sentinels, service, primary), place)

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
    def beside(self) -> Store:
        return SentinelStore(self._sentinels, self._service, self._primary)

    @override
    def ask_each(
        self, keys: Sequence[bytes], commands: Sequence[bytes], deadline: Deadline
    ) -> list[Any]:
        return self._ask(lambda store: store.ask_each(keys, commands, deadline), deadline)

    @override
    def close(self) -> None:
        with self._found.turn(NEVER) as found:
            found.close()

    def _ask(self, question: Callable[[RedisStore], T], deadline: Deadline) -> T:
        with self._found.turn(deadline) as found:
            store = found.store(deadline)
            try:
                return question(store)
            except (StoreUnavailableError, StoreFullError):
                other = found.other(store, deadline)
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
        with self._found.turn(deadline) as found:
            store = found.store(deadline)
            try:
                for answer in question(store, repeatable):
                    repeatable.settle()
                    yield answer
                    del answer  # the next part comes into its memory
            except (StoreUnavailableError, StoreFullError):
                other = found.other(store, deadline)
                if other is None or repeatable.is_settled:
                    raise
            else:
                return
            yield from question(other, repeatable)


@final
class _Found:
    """The primary as it was last found; not safe between threads."""

    def __init__(self, sentinels: Sequence[Endpoint], service: str, primary: Endpoint) -> None:
        self._sentinels = sentinels
        self._service = service
        self._endpoint = primary
        self._store: RedisStore | None = None
        self._is_doubtful = False

    def store(self, deadline: Deadline) -> RedisStore:
        """The primary, looked up if it is not known or the last call to it failed.

        Raises:
            StoreError: no sentinel says where it is.
        """
        if self._store is None or self._is_doubtful:
            self._look_up(deadline)
        assert self._store is not None
        return self._store

    def other(self, failed: RedisStore, deadline: Deadline) -> RedisStore | None:
        """The primary if it is another than the one that failed; None if not, or nobody says."""
        self._is_doubtful = True
        try:
            found = self.store(deadline)
        except StoreError:
            return None
        return None if found is failed else found

    def close(self) -> None:
        """Closes the connection to the primary."""
        if self._store is not None:
            self._store.close()

    def _look_up(self, deadline: Deadline) -> None:
        # A sentinel that has not heard of a failover yet still names the primary that is gone.
        failed = self._endpoint if self._is_doubtful else None
        host, port = self._address(deadline, failed)
        endpoint = replace(self._endpoint, host=host, port=port)
        if self._store is None or endpoint != self._endpoint:
            self.close()
            self._endpoint = endpoint
            self._store = RedisStore(endpoint)
        self._is_doubtful = False

    def _address(self, deadline: Deadline, failed: Endpoint | None) -> tuple[str, int]:
        """Where the first sentinel that answers says the primary is; rather not where `failed` was."""
        # Not all workers ask the same one.
        order = random.sample(self._sentinels, len(self._sentinels))
        trouble: StoreError | None = None
        same: tuple[str, int] | None = None
        for number, sentinel in enumerate(order):
            # A sentinel that hangs leaves time to ask the next.
            until = deadline.half() if number < len(order) - 1 else deadline
            try:
                reply = self._asked(sentinel, until)
            except StoreError as exc:
                trouble = exc
                continue
            if isinstance(reply, list) and len(reply) == 2:
                found = reply[0].decode(), int(reply[1])
                if failed is None or found != (failed.host, failed.port):
                    return found
                same = found
                continue
            trouble = trouble or StoreRefusedError(
                f"{sentinel} knows no service {self._service}; "
                "name one of it with redis+sentinel://HOST:PORT/SERVICE"
            )
        if same is not None:
            return same
        raise trouble or StoreUnavailableError(f"{self._service} has no sentinels")

    def _asked(self, sentinel: Endpoint, deadline: Deadline) -> Any:
        try:
            return self._answer(replace(sentinel, username=None, password=None), deadline)
        except StoreRefusedError:
            if sentinel.password is None:
                raise
        return self._answer(sentinel, deadline)

    def _answer(self, sentinel: Endpoint, deadline: Deadline) -> Any:
        question = command(b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", self._service.encode())
        line = Line(sentinel)
        try:
            (reply,) = line.exchange(question, 1, deadline)
        finally:
            line.close()
        if isinstance(reply, Exception):
            raise store_error(reply, sentinel) from reply
        return reply
