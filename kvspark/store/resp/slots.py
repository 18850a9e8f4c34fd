"""Which node of a cluster has a key.

A key belongs to one of 16,384 slots: CRC-16 of its hash tag, what is between its first `{` and
the next `}`, or of the whole key where there is no tag. Keys of one tag may be named together in
one command; keys of two tags may not, even where one node has both.
"""

from __future__ import annotations

import binascii
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple, final

SLOTS = 16_384


@final
class Address(NamedTuple):
    """A node, as the cluster calls it."""

    host: str
    port: int


@lru_cache(maxsize=4_096)
def slot_of_tag(tag: bytes) -> int:
    """The slot of all keys with this hash tag."""
    return binascii.crc_hqx(tag, 0) % SLOTS


def by_tag(keys: Sequence[bytes]) -> list[tuple[int, list[int]]]:
    """The slot and the places of keys that may be named in one command, for all `keys`."""
    tags: defaultdict[bytes, list[int]] = defaultdict(list)
    for place, key in enumerate(keys):
        tags[tag_of(key)].append(place)
    return [(slot_of_tag(tag), places) for tag, places in tags.items()]


def tag_of(key: bytes) -> bytes:
    """What decides about the slot of `key`."""
    opened = key.find(b"{") + 1
    closed = key.find(b"}", opened)
    return key[opened:closed] if 0 < opened < closed else key


def owners(reply: Any, asked: Address) -> list[Address | None]:
    """The node of each slot, from the answer to CLUSTER SLOTS of the node at `asked`.

    Raises:
        ValueError, TypeError, IndexError: the answer is none.
    """
    found: list[Address | None] = [None] * SLOTS
    for first, last, primary, *_ in reply:
        if not 0 <= first <= last < SLOTS:
            raise ValueError
        host = (primary[0] or b"").decode()
        # A node that knows no name of its own leaves it out: it is where we reached it.
        node = Address(host if host not in ("", "?") else asked.host, int(primary[1]))
        found[first : last + 1] = [node] * (last + 1 - first)
    return found
