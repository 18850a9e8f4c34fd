"""What closes an entry, and tells when it is opened whether it is whole.

    not sealed    header, payload, XXH3-64 of both (8 bytes, the highest first)
    sealed        header, payload in cipher, GCM's tag (16 bytes), nonce (12 bytes)

A seal is a frozen value that belongs to one stage. Here is the one without keys; the one with keys
is in `kvspark.cache.seal.aes_gcm`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt
from typing_extensions import override
from xxhash import xxh3_64, xxh3_64_digest

from kvspark.fingerprint import DIGEST_BYTES
from kvspark.store.value_table import byte_rows

Reason = str
"""Why a value is not the entry that was looked for."""

CORRUPT = "corrupt"
"""Lengths that do not agree, a wrong checksum, or a payload that does not decode."""
UNKNOWN_KEY = "unknown_key"
"""Sealed with a key that was retired, or that this process does not have yet."""
NOT_AUTHENTIC = "not_authentic"
"""Sealed for another key, stage or tenant, or changed since."""

KEY_ID_AT = 8
KEY_ID_END = 10
TAIL_AT = 28
TENSORS_AT = 44

LARGE_BYTES = 8_192
"""From here on a copy costs more than a view; below, slices of memory cost more than copies."""

Table = npt.NDArray[np.uint8]
"""(rows, bytes)"""


@final
@dataclass(frozen=True, slots=True)
class OpenedTable:
    """What values of one size hold; a row that is not right holds anything."""

    heads: Table
    payloads: Table
    """Fresh memory if it is writable."""
    right: npt.NDArray[np.bool_]


class Seal(ABC):
    """How the entries of one stage are closed and opened."""

    flags: int
    """The entry's flags."""
    key_id: int
    """The number of the key that closes; 0 where there is none."""
    end_bytes: int
    """Bytes behind the payload."""

    @abstractmethod
    def close_table(self, heads: Table, payloads: Table, digests: Sequence[bytes]) -> list[bytes]:
        """The whole entries: each head with its payload and what closes them."""

    @abstractmethod
    def close_one(self, head: bytes, payload: bytes, digest: bytes) -> bytes:
        """The whole entry of one row."""

    @abstractmethod
    def open_many(
        self, values: Sequence[bytes], digests: Sequence[bytes], head_bytes: int
    ) -> OpenedTable:
        """The heads and payloads of values of one size, and which of them are what was closed."""

    @abstractmethod
    def open_slab(self, table: Table, bound: Table, room: Table) -> bool:
        """True if all rows of `table` are what was closed; `room` holds their payloads then.

        `bound` has each digest and, behind it, the head of its row.
        """

    @abstractmethod
    def open_one(self, value: bytes, digest: bytes, head_bytes: int) -> memoryview | Reason:
        """The payload of one value, or why it cannot be had."""


@final
class Checksum(Seal):
    """Entries in clear: a checksum finds what was damaged, not who changed it on purpose.

    XXH3 because CRC-32 took longer than the network: 65,536 bytes in 1.4 microseconds against 18-25
    (zlib's), 768 bytes in 0.12 against 0.4.
    """

    flags = 0
    key_id = 0
    end_bytes = 8

    @override
    def close_table(self, heads: Table, payloads: Table, digests: Sequence[bytes]) -> list[bytes]:
        if payloads.shape[1] >= LARGE_BYTES:
            rows = [row.data for row in payloads]
            return [
                b"".join((head, row, _sum(head, row)))
                for head, row in zip(byte_rows(heads), rows, strict=True)
            ]
        table = np.empty((len(heads), heads.shape[1] + payloads.shape[1] + 8), dtype=np.uint8)
        table[:, : heads.shape[1]] = heads
        table[:, heads.shape[1] : -8] = payloads
        sums = b"".join(map(xxh3_64_digest, table[:, :-8]))
        table[:, -8:] = np.frombuffer(sums, dtype=np.uint8).reshape(-1, 8)
        return byte_rows(table)

    @override
    def close_one(self, head: bytes, payload: bytes, digest: bytes) -> bytes:
        return b"".join((head, payload, _sum(head, payload)))

    @override
    def open_many(
        self, values: Sequence[bytes], digests: Sequence[bytes], head_bytes: int
    ) -> OpenedTable:
        if len(values[0]) >= LARGE_BYTES:
            return _open_large(values, head_bytes)
        joined = b"".join(values)
        table = np.frombuffer(joined, dtype=np.uint8).reshape(len(values), -1)
        view, size = memoryview(joined), table.shape[1]
        starts = range(0, len(joined), size)
        sums = b"".join([xxh3_64_digest(view[at : at + size - 8]) for at in starts])
        stored = np.ascontiguousarray(table[:, -8:]).reshape(-1).view("<u8")
        right = stored == np.frombuffer(sums, dtype="<u8")
        return OpenedTable(table[:, :head_bytes], table[:, head_bytes:-8], right)

    @override
    def open_slab(self, table: Table, bound: Table, room: Table) -> bool:
        if b"".join(map(xxh3_64_digest, table[:, :-8])) != table[:, -8:].tobytes():
            return False
        room[:] = table[:, bound.shape[1] - DIGEST_BYTES : -8]
        return True

    @override
    def open_one(self, value: bytes, digest: bytes, head_bytes: int) -> memoryview | Reason:
        view = memoryview(value)
        if xxh3_64_digest(view[:-8]) != value[-8:]:
            return CORRUPT
        return view[head_bytes:-8]


def _sum(head: bytes, payload: bytes | memoryview) -> bytes:
    hasher = xxh3_64(head)
    hasher.update(payload)
    return hasher.digest()


def _open_large(values: Sequence[bytes], head_bytes: int) -> OpenedTable:
    """As `Checksum.open_many`, with one copy: each payload right after it was summed."""
    size, right = len(values[0]) - head_bytes - 8, []
    payloads = np.empty(size * len(values), dtype=np.uint8)
    room, at = payloads.data, 0
    for value in values:
        view = memoryview(value)
        right.append(xxh3_64_digest(view[:-8]) == value[-8:])
        room[at : at + size] = view[head_bytes:-8]
        at += size
    heads = np.frombuffer(b"".join([value[:head_bytes] for value in values]), dtype=np.uint8)
    return OpenedTable(
        heads.reshape(-1, head_bytes), payloads.reshape(-1, size), np.array(right, dtype=np.bool_)
    )


CHECKSUM = Checksum()


def tails(digests: Sequence[bytes]) -> Table:
    """The second halves of `digests`, which headers hold."""
    table = np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, DIGEST_BYTES)
    return table[:, DIGEST_BYTES // 2 :]
