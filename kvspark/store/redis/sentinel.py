"""A store on the primary server that sentinels watch over.

The primary is looked up at the first call, and again after one that did not get through or was
refused because the server is a replica by now. A connection to a sentinel is closed at once: a process
keeps one, to the primary.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, final

from typing_extensions import override

from kvspark.errors import StoreError, StoreRefusedError, StoreUnavailableError
from kvspark.store.base import Store
from kvspark.store.deadline import Deadline
from kvspark.store.endpoint import Endpoint
from kvspark.store.redis.found import Finder, FoundStore
from kvspark.store.redis.server import RedisStore
from kvspark.store.redis_error import store_error
from kvspark.store.resp.command import command
from kvspark.store.resp.connection import Line


@final
class SentinelStore(FoundStore):
    """Bytes under keys on the primary of `service`.

    `primary` says how it is entered; where it is, the `sentinels` say. Those are entered without
    a password, or with the primary's where they ask for one.
    """

    def __init__(self, sentinels: Sequence[Endpoint], service: str, primary: Endpoint) -> None:
        self._sentinels = sentinels
        self._service = service
        self._primary = primary
        place = f"{service} of the sentinel {sentinels[0]}"
        super().__init__(lambda: Primary(sentinels, service, primary), place)

    @override
    def beside(self) -> Store:
        return SentinelStore(self._sentinels, self._service, self._primary)


@final
class Primary(Finder):
    """The primary as it was last found."""

    def __init__(self, sentinels: Sequence[Endpoint], service: str, primary: Endpoint) -> None:
        self._sentinels = sentinels
        self._service = service
        self._endpoint = primary
        self._store: RedisStore | None = None
        self._is_doubtful = False

    @override
    def store(self, deadline: Deadline) -> RedisStore:
        if self._store is None or self._is_doubtful:
            self._look_up(deadline)
        assert self._store is not None
        return self._store

    @override
    def other(self, failed: RedisStore, deadline: Deadline) -> RedisStore | None:
        self._is_doubtful = True
        try:
            found = self.store(deadline)
        except StoreError:
            return None
        return None if found is failed else found

    @override
    def close(self) -> None:
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
