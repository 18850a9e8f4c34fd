"""Reads the replies to some `MGET`s of one node, whose values are expected to have one size, without parsing them.

    *2 CRLF   $812 CRLF value CRLF   $812 CRLF value CRLF   *1 CRLF   $812 CRLF value CRLF   ...

As `kvspark.cache.store.redis.even_reply`, but for many short replies: what is between two values is
at places that are known before it comes, and is compared as it arrives. A reply that goes on otherwise
is noticed by its first byte that differs, before anything is waited for that will not come.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import final

import numpy as np
import numpy.typing as npt

LARGE_BYTES = 16 * 1024
"""From here on values are copied one by one: below, all at once takes less."""


@final
class EvenReplies:
    """Replies of so many values each, all of `value_bytes`, as far as they have come.

    `spare_bytes` is how many to accept that are not of these replies.
    """

    def __init__(self, counts: Sequence[int], value_bytes: int, *, spare_bytes: int) -> None:
        self._value_bytes = value_bytes
        size = b"$%d\r\n" % value_bytes
        between = b"\r\n" + size
        heads = [b"\r\n*%d\r\n%b" % (count, size) for count in counts]
        # Nothing is before the first.
        heads[0] = heads[0][2:]
        marks = [head + between * (count - 1) for head, count in zip(heads, counts, strict=True)]
        self._expected = b"".join(marks) + b"\r\n"
        lengths = np.full(sum(counts) + 1, len(between))
        lengths[np.cumsum([0, *counts[:-1]])] = [*map(len, heads)]
        lengths[-1] = 2
        ends = np.cumsum(lengths)
        starts = ends - lengths + value_bytes * np.arange(len(lengths))
        self._at = np.arange(ends[-1]) + np.repeat(value_bytes * np.arange(len(lengths)), lengths)
        """The place of each byte that is expected, in their order."""
        self._values_at = starts[:-1] + lengths[:-1]
        self._size_bytes = int(starts[-1]) + 2
        self._memory = np.empty(self._size_bytes + spare_bytes, dtype=np.uint8)
        self._got = 0
        self._compared = 0

    @property
    def received(self) -> memoryview:
        """All that came, of whatever replies."""
        return self._memory.data[: self._got]

    @property
    def has_more(self) -> bool:
        """True if something came beyond the last reply."""
        return self._got > self._size_bytes

    def receive(self, recv_into: Callable[[memoryview], int]) -> bool:
        """True when all values are there; False as soon as one is missing, or anything else is not as expected.

        Raises:
            ConnectionResetError: the other side closed the connection.
        """
        while self._got < self._size_bytes:
            received = recv_into(self._memory.data[self._got :])
            if not received:
                raise ConnectionResetError("the server closed the connection")
            self._got += received
            stop = int(np.searchsorted(self._at, self._got))
            came = self._memory[self._at[self._compared : stop]]
            if came.tobytes() != self._expected[self._compared : stop]:
                return False
            self._compared = stop
        return True

    def copy_to(self, table: npt.NDArray[np.uint8], places: npt.NDArray[np.intp]) -> None:
        """Writes the values, in their order, into the rows of `table` at `places`."""
        size = self._value_bytes
        if size >= LARGE_BYTES:
            for place, at in zip(places.tolist(), self._values_at.tolist(), strict=True):
                table[place] = self._memory[at : at + size]
            return
        # Every place where a value could begin, as a row.
        begun = len(self._memory) - size + 1
        rows = np.lib.stride_tricks.as_strided(self._memory, (begun, size), (1, 1))
        table[places] = rows[self._values_at]

    def values(self) -> list[bytes]:
        """Each value by itself."""
        size = self._value_bytes
        return [self._memory[at : at + size].tobytes() for at in self._values_at.tolist()]
