"""Reads a node's replies to some `MGET`s, whose values are expected to have one size, without parsing them.

    *2 CRLF   $812 CRLF value CRLF   $812 CRLF value CRLF   *1 CRLF   $812 CRLF value CRLF   ...

As `kvspark.store.resp.mget_reader`, but for many short replies: what is between two values is
at places that are known before it comes, and is compared as it arrives. A reply that goes on otherwise
is noticed by its first byte that differs, before anything is waited for that will not come.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import final

import numpy as np
import numpy.typing as npt

_SPARE_BYTES = 1
"""Behind the replies: room to notice that there is more than was asked."""


@final
class EvenReplies:
    """Replies of so many values each, one at least, all of `value_bytes`, as far as they have come."""

    def __init__(self, counts: Sequence[int], value_bytes: int) -> None:
        self._value_bytes = value_bytes
        size = b"$%d\r\n" % value_bytes
        between = b"\r\n" + size
        # Each reply but the first begins with the end of the one before.
        heads = [b"\r\n*%d\r\n%b" % (count, size) for count in counts]
        heads[0] = heads[0][2:]
        marks = [head + between * (count - 1) for head, count in zip(heads, counts, strict=True)]
        self._expected = b"".join(marks) + b"\r\n"
        """The bytes around the values, ..."""
        lengths = np.full(sum(counts) + 1, len(between))
        lengths[np.cumsum([0, *counts[:-1]])] = [*map(len, heads)]
        lengths[-1] = 2
        values_before = np.arange(len(lengths)) * value_bytes
        ends = np.cumsum(lengths) + values_before
        self._at = np.arange(len(self._expected)) + np.repeat(values_before, lengths)
        """... which belong here, ..."""
        self._values_at = ends[:-1]
        """... and where the values begin."""
        self._size_bytes = int(ends[-1])
        self._memory = np.empty(self._size_bytes + _SPARE_BYTES, dtype=np.uint8).data
        self._got = 0

    @property
    def received(self) -> memoryview:
        """All that came, of whatever replies."""
        return self._memory[: self._got]

    @property
    def has_more(self) -> bool:
        """True if something came beyond the last reply."""
        return self._got > self._size_bytes

    def receive(self, recv_into: Callable[[memoryview], int], *, is_last: bool) -> bool:
        """True when all values are there; False as soon as one is missing, or anything else is not as expected.

        It begins anew, on another connection. Where these replies are the last, what comes beyond them is
        noticed.

        Raises:
            ConnectionResetError: the other side closed the connection.
        """
        room = self._memory if is_last else self._memory[: self._size_bytes]
        came = np.frombuffer(self._memory, dtype=np.uint8)
        self._got = compared = 0
        while self._got < self._size_bytes:
            received = recv_into(room[self._got :])
            if not received:
                raise ConnectionResetError("the server closed the connection")
            self._got += received
            stop = int(np.searchsorted(self._at, self._got))
            if came[self._at[compared:stop]].tobytes() != self._expected[compared:stop]:
                return False
            compared = stop
        return True

    def table(self) -> npt.NDArray[np.uint8]:
        """(values, value_bytes): a copy of all values, in their order."""
        size = self._value_bytes
        # Every place where a value could begin; as one item each, which are copied faster than rows.
        begun = np.ndarray((self._size_bytes - size + 1,), f"V{size}", self._memory, strides=(1,))
        table: npt.NDArray[np.uint8] = begun[self._values_at].view(np.uint8)
        return table.reshape(len(self._values_at), size)

    def values(self, counts: Sequence[int]) -> list[list[bytes]]:
        """The values of each reply."""
        size, at, replies = self._value_bytes, 0, list[list[bytes]]()
        between = len(b"\r\n$%d\r\n" % size)
        for count in counts:
            at += len(b"*%d\r\n" % count) - 2
            reply = []
            for _ in range(count):
                at += between
                reply.append(self._memory[at : at + size].tobytes())
                at += size
            replies.append(reply)
            at += 2
        return replies
