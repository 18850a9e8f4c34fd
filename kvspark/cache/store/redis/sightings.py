"""Tables of marks on a Redis server: strings, read and written a byte at a time by `BITFIELD`.

`SET u8 #PLACE MARK` gives the old byte and writes the new one; all of a table are one command, which
no other one comes between. The first command also writes the last byte, so that a table is made in
its whole length: what grows is given up to twice as much memory as it needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

from typing_extensions import override

from kvspark.cache.store.redis.command import command
from kvspark.cache.store.redis.leases import Ask
from kvspark.cache.store.sightings import Marks, Sightings
from kvspark.errors import StoreError, StoreUnavailableError

_SET_BYTE = b"$3\r\nSET\r\n$2\r\nu8\r\n"


@final
class RedisSightings(Sightings):
    """Tables on the server, or servers, that `ask` talks to."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    @override
    def mark_many(
        self, tables: Sequence[Marks], *, size_bytes: int, ends_s: int, timeout_s: float
    ) -> list[Sequence[int] | None]:
        if not tables:
            return []
        # A table that nobody writes any more goes with its time, as all that is ours does.
        ends = b"%d" % ends_s
        keys, commands = [], []
        for each in tables:
            keys += [each.key, each.key]
            commands += [_bitfield(each, size_bytes), command(b"EXPIREAT", each.key, ends)]
        replies = self._ask(keys, commands, timeout_s)[::2]
        return [_before(reply, each) for reply, each in zip(replies, tables, strict=True)]


def _bitfield(marks: Marks, size_bytes: int) -> bytes:
    ops = [_op(place, mark) for place, mark in zip(marks.places, marks.marks, strict=True)]
    ops.append(_op(size_bytes - 1, 0))
    head = b"*%d\r\n$8\r\nBITFIELD\r\n$%d\r\n%b\r\n" % (2 + 4 * len(ops), len(marks.key), marks.key)
    return head + b"".join(ops)


def _op(place: int, mark: int) -> bytes:
    at, value = b"#%d" % place, b"%d" % mark
    return b"%b$%d\r\n%b\r\n$%d\r\n%b\r\n" % (_SET_BYTE, len(at), at, len(value), value)


def _before(reply: Any, marks: Marks) -> Sequence[int] | None:
    if isinstance(reply, StoreError):
        return None
    if not isinstance(reply, list) or len(reply) != len(marks.places) + 1:
        raise StoreUnavailableError("the store answered marks with another number of them")
    return reply[:-1]
