"""The look-up of many keys of one form, whose hash tags are at one place: all of them at once.

Keys that begin alike, have one length and a tag of two bytes, as those of a stage have, are sorted
by their tags and framed as arrays; a thousand of them take 0.1 us each instead of 0.4 one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, final

import numpy as np
import numpy.typing as npt

from kvspark.store.resp.command import mget
from kvspark.store.resp.slots import by_tag, slot_of_tag

TAG_BYTES = 2


@final
class Gets(NamedTuple):
    """One MGET for each hash tag of some keys."""

    places: npt.NDArray[np.intp]
    """Of the keys, in the order in which they are asked for."""
    slots: list[int]
    """Of each command."""
    counts: list[int]
    """How many keys each command has."""
    commands: list[bytes]


def gets(keys: Sequence[bytes]) -> Gets:
    """How to look up `keys`, one at least."""
    return tagged_gets(keys) or _gets(keys)


def tagged_gets(keys: Sequence[bytes]) -> Gets | None:
    """One MGET for each tag of `keys`; None if they are of more than one form."""
    first, count = keys[0], len(keys)
    size, opened = len(first), first.find(b"{") + 1
    closed = opened + TAG_BYTES
    has_tag = opened and first[closed : closed + 1] == b"}"
    if not has_tag or [*map(len, keys)].count(size) != count:
        return None
    joined = b"".join(keys)
    if _fields(joined, size, 0, opened).tobytes() != first[:opened] * count:
        return None
    tags = _fields(joined, size, opened, TAG_BYTES).tobytes()
    if _fields(joined, size, closed, 1).tobytes() != b"}" * count or b"}" in tags:
        return None
    codes = np.frombuffer(tags, dtype=np.uint16)
    order = np.argsort(codes, kind="stable")
    before = b"$%d\r\n" % size
    framed = bytearray((before + bytes(size) + b"\r\n") * count)
    width = len(framed) // count
    _fields(framed, width, len(before), size)[:] = np.frombuffer(joined, f"V{size}")[order]
    bulks, ordered = bytes(framed), codes[order]
    starts = [0, *((ordered[1:] != ordered[:-1]).nonzero()[0] + 1).tolist(), count]
    ranges = list(pairwise(starts))
    slots = [
        slot_of_tag(tags[TAG_BYTES * place : TAG_BYTES * place + TAG_BYTES])
        for place in order[starts[:-1]].tolist()
    ]
    commands = [
        b"*%d\r\n$4\r\nMGET\r\n%b" % (stop - start + 1, bulks[start * width : stop * width])
        for start, stop in ranges
    ]
    return Gets(order, slots, [stop - start for start, stop in ranges], commands)


def _fields(rows: bytes | bytearray, width: int, at: int, size: int) -> npt.NDArray[np.void]:
    """The bytes from `at` on of each of `rows`, as one item each: numpy copies those faster than rows."""
    fields: npt.NDArray[np.void] = np.ndarray((len(rows) // width,), f"V{size}", rows, at, (width,))
    return fields


def _gets(keys: Sequence[bytes]) -> Gets:
    """As `tagged_gets`, for keys of any form."""
    groups = by_tag(keys)
    return Gets(
        np.array([place for _, places in groups for place in places]),
        [slot for slot, _ in groups],
        [len(places) for _, places in groups],
        [mget([keys[place] for place in places]) for _, places in groups],
    )
