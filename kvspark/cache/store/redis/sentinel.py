"""A store on the primary server that sentinels watch over.

The primary is looked up at the first call, and again after one that did not get through or was
refused because the server is a replica by now; where it has moved, the call is made once more in
the time that is left. A call of many windows is, as long as none of its values came and none of its entries
was taken. A connection to a sentinel is closed at once: a process keeps one, to the primary.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar, final

from typing_extensions import override

from kvspark.cache.store.base import Store
from kvspark.cache.store.endpoint import Endpoint
from kvspark.cache.store.process import PerProcess
from kvspark.cache.store.redis.command import command
from kvspark.cache.store.redis.commanded import CommandedStore
from kvspark.cache.store.redis.line import Line
from kvspark.cache.store.redis.repeatable import Repeatable
from kvspark.cache.store.redis.server import RedisStore
from kvspark.cache.store.redis_error import store_error
from kvspark.cache.store.slab import Part
from kvspark.errors import (
    StoreError,
    StoreFullError,
    StoreRefusedError,
    StoreUnavailableError,
)

T = TypeVar("T")


@final
class SentinelStore(CommandedStore):
    """Bytes under keys on the primary of `service`.

    `primary` says how it is entered; where it is, the `sentinels` say. Those are entered without
    a password, or with the primary's where they ask for one.
    """

    def __init__(
        self, sentinels: Sequence[Endpoint], service: str, primary: Endpoint, *, timeout_s: float
    ) -> None:
        self._sentinels = sentinels
        self._service = service
        self._primary = primary
        self._timeout_s = timeout_s
        place = f"{service} of the sentinel {sentinels[0]}"
        self._found = PerProcess(
            lambda: _Found(sentinels, service, primary, timeout_s=timeout_s), place
        )

    @override
    def get_many(
        self, keys: Sequence[bytes], *, timeout_s: float | None = None
    ) -> list[bytes | None]:
        if not keys:
            return []
        return self._ask(lambda store, left_s: store.get_many(keys, timeout_s=left_s), timeout_s)

    @override
    def get_each(
        self,
        windows: Iterable[Sequence[bytes]],
        take: Callable[[Part], None],
        *,
        value_bytes: int,
        left_s: Callable[[], float],
    ) -> None:
        repeatable = Repeatable(windows)

        def settling(part: Part) -> None:
            repeatable.settle()
            take(part)

        self._ask_each(
            repeatable,
            lambda store: store.get_each(
                iter(repeatable), settling, value_bytes=value_bytes, left_s=left_s
            ),
            left_s,
        )

    @override
    def set_many(
        self,
        entries: Sequence[tuple[bytes, bytes]],
        *,
        ttl_s: float | None,
        timeout_s: float | None = None,
    ) -> int:
        if not entries:
            return 0
        return self._ask(
            lambda store, left_s: store.set_many(entries, ttl_s=ttl_s, timeout_s=left_s), timeout_s
        )

    @override
    def set_each(
        self,
        windows: Iterator[Sequence[tuple[bytes, bytes]]],
        took: Callable[[int], None],
        *,
        ttl_s: float | None,
        left_s: Callable[[], float],
    ) -> None:
        repeatable = Repeatable(windows)

        def settling(count: int) -> None:
            repeatable.settle()
            took(count)

        self._ask_each(
            repeatable,
            lambda store: store.set_each(iter(repeatable), settling, ttl_s=ttl_s, left_s=left_s),
            left_s,
        )

    @override
    def delete_many(self, keys: Sequence[bytes], *, timeout_s: float | None = None) -> int:
        if not keys:
            return 0
        return self._ask(lambda store, left_s: store.delete_many(keys, timeout_s=left_s), timeout_s)

    @override
    def scan(self, prefix: bytes, *, timeout_s: float | None = None) -> Iterator[list[bytes]]:
        def search(store: RedisStore, left_s: float) -> list[list[bytes]]:
            return list(store.scan(prefix, timeout_s=left_s))

        yield from self._ask(search, timeout_s)

    @override
    def ping(self, *, timeout_s: float | None = None) -> None:
        self._ask(lambda store, left_s: store.ping(timeout_s=left_s), timeout_s)

    @override
    def servers(self, *, timeout_s: float) -> list[Endpoint]:
        return self._ask(lambda store, left_s: store.servers(timeout_s=left_s), timeout_s)

    @override
    def beside(self) -> Store:
        return SentinelStore(
            self._sentinels, self._service, self._primary, timeout_s=self._timeout_s
        )

    @override
    def ask_each(
        self, keys: Sequence[bytes], commands: Sequence[bytes], timeout_s: float
    ) -> list[Any]:
        return self._ask(lambda store, left_s: store.ask_each(keys, commands, left_s), timeout_s)

    @override
    def close(self) -> None:
        with self._found.turn(None) as found:
            found.close()

    def _ask(self, question: Callable[[RedisStore, float], T], timeout_s: float | None) -> T:
        ends = time.monotonic() + (self._timeout_s if timeout_s is None else timeout_s)
        with self._found.turn(ends) as found:
            store = found.store(ends)
            try:
                return question(store, _left_s(ends))
            except (StoreUnavailableError, StoreFullError):
                other = found.other(store, ends)
                if other is None:
                    raise
            return question(other, _left_s(ends))

    def _ask_each(
        self,
        repeatable: Repeatable[Any],
        question: Callable[[RedisStore], None],
        left_s: Callable[[], float],
    ) -> None:
        """As `_ask`, unless something came of the call before it failed."""
        with self._found.turn(time.monotonic() + left_s()) as found:
            store = found.store(time.monotonic() + left_s())
            try:
                question(store)
            except (StoreUnavailableError, StoreFullError):
                other = found.other(store, time.monotonic() + left_s())
                if other is None or repeatable.is_settled:
                    raise
            else:
                return
            question(other)


@final
class _Found:
    """The primary as it was last found; not safe between threads."""

    def __init__(
        self, sentinels: Sequence[Endpoint], service: str, primary: Endpoint, *, timeout_s: float
    ) -> None:
        self._sentinels = sentinels
        self._service = service
        self._endpoint = primary
        self._timeout_s = timeout_s
        self._store: RedisStore | None = None
        self._is_doubtful = False

    def store(self, ends: float) -> RedisStore:
        """The primary, looked up if it is not known or the last call to it failed.

        Raises:
            StoreError: no sentinel says where it is.
        """
        if self._store is None or self._is_doubtful:
            self._look_up(ends)
        assert self._store is not None
        return self._store

    def other(self, failed: RedisStore, ends: float) -> RedisStore | None:
        """The primary if it is another than the one that failed; None if not, or nobody says."""
        self._is_doubtful = True
        try:
            found = self.store(ends)
        except StoreError:
            return None
        return None if found is failed else found

    def close(self) -> None:
        """Closes the connection to the primary."""
        if self._store is not None:
            self._store.close()

    def _look_up(self, ends: float) -> None:
        # A sentinel that has not heard of a failover yet still names the primary that is gone.
        failed = self._endpoint if self._is_doubtful else None
        host, port = self._address(ends, failed)
        endpoint = replace(self._endpoint, host=host, port=port)
        if self._store is None or endpoint != self._endpoint:
            self.close()
            self._endpoint = endpoint
            self._store = RedisStore(endpoint, timeout_s=self._timeout_s)
        self._is_doubtful = False

    def _address(self, ends: float, failed: Endpoint | None) -> tuple[str, int]:
        """Where the first sentinel that answers says the primary is; rather not where `failed` was."""
        # Not all workers ask the same one.
        order = random.sample(self._sentinels, len(self._sentinels))
        trouble: StoreError | None = None
        same: tuple[str, int] | None = None
        for number, sentinel in enumerate(order):
            # A sentinel that hangs leaves time to ask the next.
            left_s = _left_s(ends) / (2 if number < len(order) - 1 else 1)
            try:
                reply = self._asked(sentinel, time.monotonic() + left_s)
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

    def _asked(self, sentinel: Endpoint, ends: float) -> Any:
        try:
            return self._answer(replace(sentinel, username=None, password=None), ends)
        except StoreRefusedError:
            if sentinel.password is None:
                raise
        return self._answer(sentinel, ends)

    def _answer(self, sentinel: Endpoint, ends: float) -> Any:
        question = command(b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", self._service.encode())
        line = Line(sentinel)
        try:
            (reply,) = line.exchange(question, 1, ends)
        finally:
            line.close()
        if isinstance(reply, Exception):
            raise store_error(reply, sentinel) from reply
        return reply


def _left_s(ends: float) -> float:
    return max(0.0, ends - time.monotonic())
