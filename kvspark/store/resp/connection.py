"""The connection to one server: opened when it is needed, thrown away after any trouble.

Nothing is tried again but this: a connection that was found closed is opened once more. What is
left in one after an error would be taken for the answer to the next call.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, TypeVar, final

from kvspark.store.deadline import Deadline
from kvspark.store.endpoint import Endpoint
from kvspark.store.redis_error import store_error
from kvspark.store.resp.mget_reader import EvenReplies
from kvspark.store.resp.resp_connection import Payload, Wire, is_lost, knows_no_hello
from kvspark.store.value_table import Slab

JITTER_S = 0.02
"""Workers that start together do not connect together; at most a tenth of a call's time."""

T = TypeVar("T")


@final
class Line:
    """One server's connection; not safe between threads.

    Raises:
        StoreError: from `send`, `read` and `exchange`, whatever went wrong.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._wire: Wire | None = None
        self._protocol = 3
        self._sent: list[Payload] = []
        """What is sent again on a connection that was found closed."""
        self._is_old = False

    @property
    def is_open(self) -> bool:
        """Connected, as far as we know."""
        return self._wire is not None

    def exchange(self, payload: Payload, count: int, deadline: Deadline) -> list[Any]:
        """The `count` replies to `payload`, error replies as exceptions in their place."""
        self.send(payload, deadline)
        return self.read(count, deadline)

    def send(self, payload: Payload, deadline: Deadline) -> None:
        """Sends `payload`; its replies are to be read before the next one."""
        self._sent, self._is_old = [payload], self.is_open
        self._send(payload, deadline)

    def send_more(self, payload: Payload, deadline: Deadline) -> None:
        """Sends `payload` behind what was sent, whose replies were not all read."""
        if self._is_old:
            # Nothing was answered yet, so that all may have to be sent again.
            self._sent.append(payload)
        self._send(payload, deadline)

    def read(self, count: int, deadline: Deadline, *, is_last: bool = True) -> list[Any]:
        """The next `count` replies to what was sent; see `Wire.read`."""
        return self._read(lambda wire: wire.read(count, deadline, is_last=is_last), deadline)

    def read_part(
        self, expected: EvenReplies, deadline: Deadline, *, is_last: bool
    ) -> Slab | list[Any]:
        """As `read`, of replies that are expected to be even; see `Wire.read_part`."""
        return self._read(
            lambda wire: wire.read_part(expected, deadline, is_last=is_last), deadline
        )

    def _send(self, payload: Payload, deadline: Deadline) -> None:
        with _Watched(self):
            try:
                self._opened(deadline).send(payload, deadline)
            except Exception as exc:
                if not self._was_lost(exc):
                    raise
                self._send_again(deadline)

    def _send_again(self, deadline: Deadline) -> None:
        for payload in self._sent:
            self._opened(deadline).send(payload, deadline)

    def _read(self, read: Callable[[Wire], T], deadline: Deadline) -> T:
        with _Watched(self):
            try:
                read_now = read(self._opened(deadline))
            except Exception as exc:
                if not self._was_lost(exc):
                    raise
                self._send_again(deadline)
                read_now = read(self._opened(deadline))
            # Once it has answered it is no old connection, and the payload is not sent again.
            self._is_old = False
            return read_now

    @property
    def has_more(self) -> bool:
        """True if a part of the next replies was received."""
        return self._wire is not None and self._wire.has_more

    def fileno(self) -> int:
        """The socket of an open line, for waiting until it can be read."""
        return -1 if self._wire is None else self._wire.fileno()

    def close(self) -> None:
        """Closes the connection; the next call opens another."""
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()

    def _was_lost(self, exc: Exception) -> bool:
        """True, once a call, if the connection was found closed."""
        may_open_again = self._is_old and is_lost(exc)
        if may_open_again:
            self.close()
            self._is_old = False
        return may_open_again

    def _opened(self, deadline: Deadline) -> Wire:
        if self._wire is None:
            if not self.endpoint.socket_path:
                time.sleep(random.uniform(0.0, min(JITTER_S, deadline.left_s() / 10)))  # noqa: S311 - no secret
            self._wire = self._connected(deadline)
        return self._wire

    def _connected(self, deadline: Deadline) -> Wire:
        try:
            return Wire(self.endpoint, protocol=self._protocol, deadline=deadline)
        except Exception as exc:
            if self._protocol == 2 or not knows_no_hello(exc):
                raise
        self._protocol = 2
        return Wire(self.endpoint, protocol=2, deadline=deadline)


@final
class _Watched:
    """Closes a line after whatever goes wrong, and gives it the name that stores use.

    A class, because each part of a reply is read in one: generators take twice as long.
    """

    def __init__(self, line: Line) -> None:
        self._line = line

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: object
    ) -> None:
        if exc is not None:
            self._line.close()
        if isinstance(exc, Exception):
            raise store_error(exc, self._line.endpoint) from exc
