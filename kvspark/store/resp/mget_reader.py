"""Reads the reply to an `MGET` whose values are expected to have one size, without parsing it.

Such a reply has its marks at places that are known before it comes:

    *128 CRLF   $812 CRLF value CRLF   $812 CRLF value CRLF   ...

All that has arrived is compared with the marks before more is waited for, so that a reply that goes
on otherwise (a key that is missing, a value of another size, an error) is noticed by its first byte
that differs, and is parsed like any other from its beginning. As long as nothing differs, the reply
is not complete, and there is more to wait for: values that are there are given before the wait.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import numpy as np

from kvspark.store.value_table import Slab

PIECE_BYTES = 128 * 1024
"""Values are given before the reply is complete from so many bytes on: less costs more than it waits."""


@final
class EvenReply:
    """One reply of `count` values of `value_bytes` each, as far as it has come.

    `spare_bytes` is how many to accept that are not of this reply.
    """

    def __init__(self, count: int, value_bytes: int, *, spare_bytes: int) -> None:
        self._count = count
        self._head = b"*%d\r\n" % count
        self._mark = b"\r\n$%d\r\n" % value_bytes
        self._stride = len(self._mark) + value_bytes
        # A mark begins with the CRLF of what is before it, so that all of them are alike but the last.
        self._start = len(self._head) - 2
        stop = self._start + count * self._stride
        self._size_bytes = stop + 2
        memory = np.empty(self._size_bytes + spare_bytes, dtype=np.uint8)
        self._rows = memory[self._start : stop].reshape(count, self._stride)
        self._view = memory.data
        self._got = 0
        self._marked = 0
        """Values whose mark has come."""
        self.given = 0
        """Values that `more` has given."""

    @property
    def is_given(self) -> bool:
        """True if `more` has given all values."""
        return self.given == self._count

    @property
    def received(self) -> memoryview:
        """What came beyond the reply if all values were given, otherwise all that came."""
        return self._view[self._size_bytes if self.is_given else 0 : self._got]

    def more(
        self, recv_into: Callable[[memoryview], int], would_wait: Callable[[], bool]
    ) -> Slab | None:
        """The next values, one at least; None if the reply is not even.

        `recv_into` returns how many bytes it has put, and `would_wait` whether it had to wait for them.

        Raises:
            ConnectionResetError: the other side closed the connection.
        """
        while self._got < self._size_bytes:
            whole = self._marked - 1
            if (whole - self.given) * self._stride >= PIECE_BYTES and would_wait():
                return self._give(whole)
            if not self._receive(recv_into):
                return None
        return self._give(self._count)

    def _give(self, stop: int) -> Slab:
        first, self.given = self.given, stop
        return Slab(self._rows[first:stop, len(self._mark) :])

    def _receive(self, recv_into: Callable[[memoryview], int]) -> bool:
        """True if all that has come by then is as expected."""
        received = recv_into(self._view[self._got :])
        if not received:
            raise ConnectionResetError("the server closed the connection")
        first, self._got = self._got, self._got + received
        got, view, mark, count = self._got, self._view, self._mark, self._count
        head = self._head
        if first < len(head) and view[: min(got, len(head))] != head[:got]:
            return False
        arrived = min(count, (got - self._start - len(mark)) // self._stride + 1)
        marks = self._rows[self._marked : arrived, : len(mark)]
        if marks.tobytes() != mark * (arrived - self._marked):
            return False
        self._marked, at = arrived, self._start + arrived * self._stride
        rest = mark if arrived < count else mark[:2]
        return at >= got or view[at : min(got, at + len(rest))] == rest[: got - at]
