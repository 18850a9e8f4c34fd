"""Reads the replies of several nodes to some `MGET`s each, whose values are expected to have one size, without parsing them.

    *2 CRLF   $812 CRLF value CRLF   $812 CRLF value CRLF   *1 CRLF   $812 CRLF value CRLF   ...

As `kvspark.cache.store.redis.even_reply`, but for many short replies: what is between two values is
at places that are known before it comes, and is compared as it arrives. A reply that goes on otherwise
is noticed by its first byte that differs, before anything is waited for that will not come.

All nodes write into one piece of memory, one behind the other, so that the values of all are put into
another order with one copy. The places are worked out while the nodes are at work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import final

import numpy as np
import numpy.typing as npt

_SPARE_BYTES = 1
"""Behind the replies of each node: room to notice that it sends more than it was asked."""

Places = npt.NDArray[np.intp]


@final
class EvenReplies:
    """Of each node replies of so many values each, all of `value_bytes`: one value, and one node, at least."""

    def __init__(self, counts: Sequence[Sequence[int]], value_bytes: int) -> None:
        self._value_bytes = value_bytes
        every = [count for of_node in counts for count in of_node]
        size = b"$%d\r\n" % value_bytes
        between = b"\r\n" + size
        # One stream, until it is parted: each reply but the first begins with the end of the one before.
        heads = [b"\r\n*%d\r\n%b" % (count, size) for count in every]
        heads[0] = heads[0][2:]
        marks = [head + between * (count - 1) for head, count in zip(heads, every, strict=True)]
        expected = b"".join(marks) + b"\r\n"
        lengths = np.full(sum(every) + 1, len(between))
        lengths[np.cumsum([0, *every[:-1]])] = [*map(len, heads)]
        lengths[-1] = 2
        ends = np.cumsum(lengths)
        values_before = np.arange(len(lengths)) * value_bytes
        at = np.arange(ends[-1]) + np.repeat(values_before, lengths)
        self._values_at = (ends + values_before)[:-1]
        sizes = [sum(of_node) for of_node in counts]
        firsts = np.cumsum([0, *sizes[:-1]])
        # Where the stream of each node begins: among the bytes that are expected, and among all.
        marked = [0, *(ends[firsts[1:]] - lengths[firsts[1:]] + 2).tolist(), len(expected)]
        starts = [
            begin + value_bytes * first
            for begin, first in zip(marked, [*firsts.tolist(), sum(sizes)], strict=True)
        ]
        self._memory = np.empty(starts[-1] + len(counts) * _SPARE_BYTES, dtype=np.uint8)
        self._values_at += np.repeat(np.arange(len(counts)) * _SPARE_BYTES, sizes)
        self.nodes = [
            NodeReplies(
                self._memory.data[start + spare : stop + spare + _SPARE_BYTES],
                expected[first:last],
                at[first:last] - start,
                value_bytes,
            )
            for spare, first, last, start, stop in zip(
                range(len(counts)), marked, marked[1:], starts, starts[1:], strict=False
            )
        ]
        """What comes from each."""

    def in_order(self, places: Places) -> Places:
        """For `values`: where in memory is what belongs to each row; the values, in their order, belong at `places`."""
        at = np.empty(len(places), dtype=np.intp)
        at[places] = self._values_at
        return at

    def values(self, at: Places) -> npt.NDArray[np.uint8]:
        """(rows, value_bytes): a copy of the values that begin at these places."""
        size = self._value_bytes
        # Every place where a value could begin; as one item each, which are copied faster than rows.
        begun = np.ndarray(
            (len(self._memory) - size + 1,), f"V{size}", self._memory.data, strides=(1,)
        )
        table: npt.NDArray[np.uint8] = begun[at].view(np.uint8).reshape(len(at), size)
        return table


@final
class NodeReplies:
    """The replies of one node, as far as they have come into `memory`.

    `expected` are the bytes around the values, which belong at `at`.
    """

    def __init__(self, memory: memoryview, expected: bytes, at: Places, value_bytes: int) -> None:
        self._memory = memory
        self._expected = expected
        self._at = at
        self._value_bytes = value_bytes
        self._size_bytes = len(memory) - _SPARE_BYTES
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
