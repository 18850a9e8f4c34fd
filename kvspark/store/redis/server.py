"""A store on one Redis or Valkey server, with one connection a process."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, final

from typing_extensions import override

from kvspark.errors import StoreRefusedError, StoreUnavailableError
from kvspark.store.base import Counts, Entries, Keys, Parts, Store
from kvspark.store.deadline import NEVER, Deadline
from kvspark.store.endpoint import Endpoint
from kvspark.store.process import PerProcess
from kvspark.store.redis.redis_base import CommandedStore
from kvspark.store.redis_error import is_timeout, store_error
from kvspark.store.resp.command import PING, mget, scan, unlink
from kvspark.store.resp.connection import Line
from kvspark.store.resp.mget_reader import EvenReplies
from kvspark.store.resp.pipelined_write import PipelinedWrite
from kvspark.store.resp.resp_connection import Payload
from kvspark.store.resp.tls_check import answers_plainly
from kvspark.store.value_table import Part, Slab

FIRST_SHARE = 4
"""Of a window is asked for first: its values are decoded while the server looks for the others, ..."""
FIRST_BYTES = 32 * 1024
"""... where that is not less than this."""

AHEAD = 2
"""Windows of a look-up that were asked for and not read yet: the server works on them meanwhile."""


@final
class RedisStore(CommandedStore):
    """Bytes under keys on the server at `endpoint`."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._line = PerProcess(lambda: Line(endpoint), endpoint)

    @override
    def read(self, windows: Iterable[Keys], deadline: Deadline, *, value_bytes: int = 0) -> Parts:
        asked = (
            (EvenReplies((len(window),), value_bytes), mget(window))
            for window in _with_a_short_first(windows, value_bytes)
        )
        ahead = deque(islice(asked, AHEAD))
        if not ahead:
            return
        with self._line.turn(deadline) as line:
            try:
                # In one write: of two, a relay that waits for more to send (Nagle) and a server that
                # waits before it acknowledges keep the second for 40 ms.
                line.send(b"".join([each for _, each in ahead]), deadline)
                while ahead:
                    expected, _ = ahead.popleft()
                    left = expected.counts[0]
                    while left:
                        given = expected.given
                        reply = line.read_part(expected, deadline, is_last=not ahead)
                        part = self._part(reply, given, left)
                        left -= len(part)
                        for following in islice(asked, 0 if left else 1):
                            # Not before the first reply: until then all may have to be sent again.
                            line.send_more(following[1], deadline)
                            ahead.append(following)
                        yield part
                        # The next part comes into the same memory, which is near the processor still.
                        del part, reply
            except BaseException:
                # What is still to come would be taken for the answer to the next call.
                line.close()
                raise

    @override
    def write(
        self, windows: Iterable[Entries], deadline: Deadline, *, ttl_s: float | None
    ) -> Counts:
        # The first is made before it is our turn, so that a thread which reads waits less.
        others = iter(windows)
        for first in islice(others, 1):
            with self._line.turn(deadline) as line:
                yield from PipelinedWrite(line, self.endpoint, ttl_s, deadline).run(first, others)

    @override
    def delete(self, keys: Keys, deadline: Deadline) -> int:
        if not keys:
            return 0
        (count,) = self._call(unlink(keys), 1, deadline)
        return int(count)

    @override
    def scan(self, prefix: bytes, *, each_s: float) -> Iterator[list[bytes]]:
        cursor = b""
        while cursor != b"0":
            ((cursor, keys),) = self._call(scan(prefix, cursor or b"0"), 1, Deadline.after(each_s))
            yield keys

    @override
    def ping(self, deadline: Deadline) -> None:
        try:
            self._call(PING, 1, deadline)
        except StoreUnavailableError as exc:
            if self.endpoint.is_tls and is_timeout(exc) and answers_plainly(self.endpoint):
                raise StoreRefusedError(
                    f"{self.endpoint} speaks no TLS; name its TLS port, or write redis://"
                ) from exc
            raise

    @override
    def servers(self, deadline: Deadline) -> list[Endpoint]:
        return [self.endpoint]

    @override
    def beside(self) -> Store:
        return RedisStore(self.endpoint)

    @override
    def ask_each(
        self, keys: Sequence[bytes], commands: Sequence[bytes], deadline: Deadline
    ) -> list[Any]:
        del keys  # one server has all of them
        return self._call(b"".join(commands), len(commands), deadline)

    @override
    def close(self) -> None:
        with self._line.turn(NEVER) as line:
            line.close()

    def _part(self, reply: Slab | list[Any], given: int, left: int) -> Part:
        """What `reply` has of the `left` values of a window, of which some were given before."""
        if isinstance(reply, Slab):
            return reply
        (values,) = reply
        if isinstance(values, Exception):
            raise store_error(values, self.endpoint) from values
        if isinstance(values, list) and len(values) == given + left:
            return values[given:]
        raise StoreUnavailableError(
            f"{self.endpoint} answered {left} keys with another number of values"
        )

    def _call(self, payload: Payload, count: int, deadline: Deadline) -> list[Any]:
        """The `count` replies to the commands in `payload`; every one of them is read.

        Raises:
            StoreError: no answer, or a reply is an error.
        """
        if not count:
            return []
        with self._line.turn(deadline) as line:
            replies = line.exchange(payload, count, deadline)
        for reply in replies:
            if isinstance(reply, Exception):
                raise store_error(reply, self.endpoint) from reply
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
