"""A store on one Redis or Valkey server, with one connection a process."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, final

from typing_extensions import override

from kvspark.cache.store.base import Store
from kvspark.cache.store.endpoint import Endpoint
from kvspark.cache.store.process import PerProcess
from kvspark.cache.store.redis.command import MGET_KEYS, PING, mget, scan, unlink
from kvspark.cache.store.redis.commanded import CommandedStore
from kvspark.cache.store.redis.line import Line
from kvspark.cache.store.redis.pipelined_write import PipelinedWrite, odd_reply, set_payload
from kvspark.cache.store.redis.plain import answers_plainly
from kvspark.cache.store.redis.wire import Payload
from kvspark.cache.store.redis_error import is_timeout, store_error
from kvspark.cache.store.slab import Part, Slab
from kvspark.errors import StoreRefusedError, StoreUnavailableError

FIRST_SHARE = 4
"""Of a window is asked for first: its values are decoded while the server looks for the others, ..."""
FIRST_BYTES = 32 * 1024
"""... where that is not less than this."""

AHEAD = 2
"""Windows of a look-up that were asked for and not read yet: the server works on them meanwhile."""


@final
class RedisStore(CommandedStore):
    """Bytes under keys on the server at `endpoint`; a call takes `timeout_s` unless it says else."""

    def __init__(self, endpoint: Endpoint, *, timeout_s: float) -> None:
        self._endpoint = endpoint
        self._timeout_s = timeout_s
        self._line = PerProcess(lambda: Line(endpoint), endpoint)

    @override
    def get_many(
        self, keys: Sequence[bytes], *, timeout_s: float | None = None
    ) -> list[bytes | None]:
        windows = [keys[at : at + MGET_KEYS] for at in range(0, len(keys), MGET_KEYS)]
        payload = b"".join([mget(window) for window in windows])
        values: list[bytes | None] = []
        for window, reply in zip(
            windows, self._call(payload, len(windows), timeout_s), strict=True
        ):
            if not isinstance(reply, list) or len(reply) != len(window):
                self.close()
                raise self._miscounted(len(window))
            values += reply
        return values

    @override
    def get_each(
        self,
        windows: Iterable[Sequence[bytes]],
        take: Callable[[Part], None],
        *,
        value_bytes: int,
        left_s: Callable[[], float],
    ) -> None:
        asked = (
            (len(window), mget(window)) for window in _with_a_short_first(windows, value_bytes)
        )
        ahead = deque(islice(asked, AHEAD))
        if not ahead:
            return
        with self._line.turn(time.monotonic() + left_s()) as line:
            try:
                # In one write: of two, a relay that waits for more to send (Nagle) and a server that
                # waits before it acknowledges keep the second for 40 ms.
                line.send(b"".join([each for _, each in ahead]), time.monotonic() + left_s())
                while ahead:
                    left, _ = ahead.popleft()
                    while left:
                        ends = time.monotonic() + left_s()
                        reply = line.read_part(left, value_bytes, ends, is_last=not ahead)
                        part = self._part(left, reply)
                        left -= len(part)
                        for following in islice(asked, 0 if left else 1):
                            # Not before the first reply: until then all may have to be sent again.
                            line.send_more(following[1], time.monotonic() + left_s())
                            ahead.append(following)
                        take(part)
                        # The next part comes into the same memory, which is near the processor still.
                        del part, reply
            except BaseException:
                # What is still to come would be taken for the answer to the next call.
                line.close()
                raise

    @override
    def set_many(
        self,
        entries: Sequence[tuple[bytes, bytes]],
        *,
        ttl_s: float | None,
        timeout_s: float | None = None,
    ) -> int:
        taken = self._call(set_payload(entries, ttl_s), len(entries), timeout_s).count(b"OK")
        if taken < len(entries):
            self.close()
            raise odd_reply(self._endpoint)
        return taken

    @override
    def set_each(
        self,
        windows: Iterator[Sequence[tuple[bytes, bytes]]],
        took: Callable[[int], None],
        *,
        ttl_s: float | None,
        left_s: Callable[[], float],
    ) -> None:
        # The first is made before it is our turn, so that a thread which reads waits less.
        for first in islice(windows, 1):
            with self._line.turn(time.monotonic() + left_s()) as line:
                PipelinedWrite(line, self._endpoint, ttl_s, left_s).run(first, windows, took)

    @override
    def delete_many(self, keys: Sequence[bytes], *, timeout_s: float | None = None) -> int:
        if not keys:
            return 0
        (count,) = self._call(unlink(keys), 1, timeout_s)
        return int(count)

    @override
    def scan(self, prefix: bytes, *, timeout_s: float | None = None) -> Iterator[list[bytes]]:
        cursor = b""
        while cursor != b"0":
            ((cursor, keys),) = self._call(scan(prefix, cursor or b"0"), 1, timeout_s)
            yield keys

    @override
    def ping(self, *, timeout_s: float | None = None) -> None:
        try:
            self._call(PING, 1, timeout_s)
        except StoreUnavailableError as exc:
            if self._endpoint.is_tls and is_timeout(exc) and answers_plainly(self._endpoint):
                raise StoreRefusedError(
                    f"{self._endpoint} speaks no TLS; name its TLS port, or write redis://"
                ) from exc
            raise

    @override
    def servers(self, *, timeout_s: float) -> list[Endpoint]:
        return [self._endpoint]

    @override
    def beside(self) -> Store:
        return RedisStore(self._endpoint, timeout_s=self._timeout_s)

    @override
    def ask_each(
        self, keys: Sequence[bytes], commands: Sequence[bytes], timeout_s: float
    ) -> list[Any]:
        del keys  # one server has all of them
        return self._call(b"".join(commands), len(commands), timeout_s)

    @override
    def close(self) -> None:
        with self._line.turn(None) as line:
            line.close()

    def _part(self, left: int, reply: Any) -> Part:
        """`reply` if it is some, or all, of the `left` values of a window."""
        if isinstance(reply, Exception):
            raise store_error(reply, self._endpoint) from reply
        if isinstance(reply, Slab) and len(reply) <= left:
            return reply
        if isinstance(reply, list) and len(reply) == left:
            return reply
        raise self._miscounted(left)

    def _miscounted(self, count: int) -> StoreUnavailableError:
        return StoreUnavailableError(
            f"{self._endpoint} answered {count} keys with another number of values"
        )

    def _call(self, payload: Payload, count: int, timeout_s: float | None) -> list[Any]:
        """The `count` replies to the commands in `payload`; every one of them is read.

        Raises:
            StoreError: no answer, or a reply is an error.
        """
        if not count:
            return []
        ends = time.monotonic() + (self._timeout_s if timeout_s is None else timeout_s)
        with self._line.turn(ends) as line:
            replies = line.exchange(payload, count, ends)
        for reply in replies:
            if isinstance(reply, Exception):
                raise store_error(reply, self._endpoint) from reply
        return replies


def _with_a_short_first(
    windows: Iterable[Sequence[bytes]], value_bytes: int
) -> Iterator[Sequence[bytes]]:
    rest = iter(windows)
    for first in islice(rest, 1):
        count = len(first) // FIRST_SHARE
        if count * value_bytes < FIRST_BYTES:
            yield first
        else:
            yield from (first[:count], first[count:])
    yield from rest
