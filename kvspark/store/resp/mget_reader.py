"""Reads the replies to some `MGET`s whose values are expected to have one size, without parsing them.

Such replies have their marks at places that are known before they come:

    *128 CRLF   $812 CRLF value CRLF   $812 CRLF value CRLF   ...   *16 CRLF   $812 CRLF value CRLF   ...

All that has arrived is compared with the marks before more is waited for, so that a reply that goes
on otherwise (a key that is missing, a value of another size, an error) is noticed by its first byte
that differs, and all are parsed like any other from their beginning. As long as nothing differs, the
replies are not complete, and there is more to wait for: values that are there may be given before the wait.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple, final

import numpy as np
import numpy.typing as npt

from kvspark.store.value_table import Slab

PIECE_BYTES = 128 * 1024
"""Values are given before the reply is complete from so many bytes on: less costs more than it waits."""


@final
class _Layout(NamedTuple):
    """Where everything is in replies that are as expected."""

    marks: bytes
    """The bytes around the values, ..."""
    marks_at: npt.NDArray[np.intp]
    """... where each of them belongs, ..."""
    values_at: npt.NDArray[np.intp]
    """... and where the values begin."""
    size_bytes: int


@lru_cache(maxsize=16)
def _layout(counts: tuple[int, ...], value_bytes: int) -> _Layout:
    size = b"$%d\r\n" % value_bytes
    between = b"\r\n" + size
    # Each reply but the first begins with the end of the one before.
    heads = [b"\r\n*%d\r\n%b" % (count, size) for count in counts]
    heads[0] = heads[0][2:]
    marks = [head + between * (count - 1) for head, count in zip(heads, counts, strict=True)]
    lengths = np.full(sum(counts) + 1, len(between))
    lengths[np.cumsum([0, *counts[:-1]])] = [*map(len, heads)]
    lengths[-1] = 2
    values_before = np.arange(len(lengths)) * value_bytes
    ends = np.cumsum(lengths) + values_before
    joined = b"".join(marks) + b"\r\n"
    marks_at = np.arange(len(joined)) + np.repeat(values_before, lengths)
    return _Layout(joined, marks_at, ends[:-1], int(ends[-1]))


@final
class EvenReplies:
    """Replies of `counts` values each, one at least, all of `value_bytes`, as far as they have come.

    They are given in pieces only where there is one reply: its values are not copied.
    """

    def __init__(self, counts: tuple[int, ...], value_bytes: int) -> None:
        self.counts = counts
        self._value_bytes = value_bytes
        self._layout = _layout(counts, value_bytes)
        self._memory = np.empty(0, dtype=np.uint8)
        self._got = self._compared = 0
        self.given = 0
        """Values that `more` has given."""

    @property
    def is_given(self) -> bool:
        """True if `more` has given all values."""
        return self.given == len(self._layout.values_at)

    @property
    def received(self) -> memoryview:
        """What came beyond the replies if all values were given, otherwise all that came."""
        return self._memory.data[self._layout.size_bytes if self.is_given else 0 : self._got]

    def more(
        self,
        recv_into: Callable[[memoryview], int],
        would_wait: Callable[[], bool],
        *,
        is_last: bool,
    ) -> Slab | None:
        """The next values, one at least; None if the replies are not even.

        recv_into: returns how many bytes it has put.
        would_wait: whether it had to wait for them.
        is_last: nothing should come beyond these replies; a byte that does is received.

        As long as nothing was given it begins anew, perhaps on another connection.

        Raises:
            ConnectionResetError: the other side closed the connection.
        """
        if not self.given:
            self._got = self._compared = 0
            # One more byte: room to notice that there is more than was asked.
            self._memory = np.empty(self._layout.size_bytes + is_last, dtype=np.uint8)
        while self._got < self._layout.size_bytes:
            whole = self._whole()
            if (whole - self.given) * self._value_bytes >= PIECE_BYTES and would_wait():
                return self._give(whole)
            if not self._receive(recv_into):
                return None
        return self._give(len(self._layout.values_at))

    def _whole(self) -> int:
        """How many values can be given: those whose end is right."""
        if len(self.counts) > 1:
            return 0
        return max(0, int(np.searchsorted(self._layout.values_at, self._got, side="right")) - 1)

    def _receive(self, recv_into: Callable[[memoryview], int]) -> bool:
        """True if all that has come by then is as expected."""
        received = recv_into(self._memory.data[self._got :])
        if not received:
            raise ConnectionResetError("the server closed the connection")
        self._got += received
        first, marks, at = self._compared, self._layout.marks, self._layout.marks_at
        self._compared = stop = int(np.searchsorted(at, self._got))
        return self._memory[at[first:stop]].tobytes() == marks[first:stop]

    def _give(self, stop: int) -> Slab:
        first, self.given = self.given, stop
        size, at = self._value_bytes, self._layout.values_at[first:stop]
        if len(self.counts) == 1:
            stride = size + len(b"\r\n$%d\r\n" % size)
            rows = (len(at), size)
            return Slab(np.ndarray(rows, np.uint8, self._memory.data, int(at[0]), (stride, 1)))
        # Every place where a value could begin; as one item each, which are copied faster than rows.
        places = self._layout.size_bytes - size + 1
        begun = np.ndarray((places,), f"V{size}", self._memory.data, strides=(1,))
        table: npt.NDArray[np.uint8] = begun[at].view(np.uint8)
        return Slab(table.reshape(len(at), size))
