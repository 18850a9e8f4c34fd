"""Reads the reply to an `MGET` whose values are expected to have one size, without parsing it.

Such a reply has its marks at places that are known before it comes:

    *128 CRLF   $812 CRLF value CRLF   $812 CRLF value CRLF   ...

All that has arrived is compared with the marks before more is waited for, so that a reply that goes
on otherwise (a key that is missing, a value of another size, an error) is noticed by its first byte
that differs, and is parsed like any other from its beginning. As long as nothing differs, the reply
is not complete, and there is more to wait for.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kvspark.cache.store.slab import Slab


def read_even(
    recv_into: Callable[[memoryview], int], count: int, value_bytes: int, *, spare_bytes: int
) -> tuple[Slab | None, memoryview]:
    """The values, None if the reply is not even, and what was received beyond them, or in all.

    `recv_into` returns how many bytes it has put; `spare_bytes` is how many to accept that are not
    of this reply.

    Raises:
        ConnectionResetError: the other side closed the connection.
    """
    head, mark = b"*%d\r\n" % count, b"\r\n$%d\r\n" % value_bytes
    stride = len(mark) + value_bytes
    # A mark begins with the CRLF of what is before it, so that all of them are alike but the last.
    start = len(head) - 2
    stop = start + count * stride
    size_bytes = stop + 2
    memory = np.empty(size_bytes + spare_bytes, dtype=np.uint8)
    rows = memory[start:stop].reshape(count, stride)
    view, got, seen = memory.data, 0, 0
    while got < size_bytes:
        received = recv_into(view[got:])
        if not received:
            raise ConnectionResetError("the server closed the connection")
        first, got = got, got + received
        if first < len(head) and view[: min(got, len(head))] != head[:got]:
            return None, view[:got]
        arrived = min(count, (got - start - len(mark)) // stride + 1)
        if rows[seen:arrived, : len(mark)].tobytes() != mark * (arrived - seen):
            return None, view[:got]
        seen, at = arrived, start + arrived * stride
        rest = mark if arrived < count else mark[:2]
        if at < got and view[at : min(got, at + len(rest))] != rest[: got - at]:
            return None, view[:got]
    return Slab(rows[:, len(mark) :]), view[size_bytes:got]
