r"""An immutable file of entries with its index at the end.

    records   per entry: length of the key (u16, little-endian), key, value
    index     an Arrow stream, sorted by hash: hash u64, offset u64, size u32, ends_ms i64
    footer    "KVSEG1\0\0", offset of the index (u64), its size (u64), its CRC-32 (u64)

`ends_ms` is when an entry ends, milliseconds since 1970: 0 for never, -1 for one that was deleted.
The hash is BLAKE2b-64 of the key. It finds a record, and the key in the record decides: two keys
with one hash cost a miss. A file that is cut has no footer, and is none. What is in a record is
for the entry itself to check.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple, final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

NEVER_MS = 0
DELETED_MS = -1

GAP_BYTES = 64 * 1024
"""What is read although nobody asked for it, rather than to ask twice."""

READ_BYTES = 8 * 2**20
"""The most that one read is made to take."""

_FOOTER = struct.Struct("<8sQQQ")
_INDEX = pa.schema(
    [("hash", pa.uint64()), ("offset", pa.uint64()), ("size", pa.uint32()), ("ends_ms", pa.int64())]
)
_MAGIC = b"KVSEG1\0\0"
_KEY_SIZE = struct.Struct("<H")

Hashes = npt.NDArray[np.uint64]


@final
class Record(NamedTuple):
    """An entry, or that one is deleted."""

    value: bytes
    ends_ms: int


def hashes_of(keys: Iterable[bytes]) -> Hashes:
    """The hash of each key."""
    joined = b"".join([blake2b(key, digest_size=8).digest() for key in keys])
    return np.frombuffer(joined, dtype="<u8")


def packed(entries: Mapping[bytes, Record]) -> bytes:
    """A whole segment."""
    records = io.BytesIO()
    offsets, sizes = [], []
    for key, record in entries.items():
        offsets.append(records.tell())
        sizes.append(_KEY_SIZE.size + len(key) + len(record.value))
        records.write(_KEY_SIZE.pack(len(key)) + key)
        records.write(record.value)
    hashes = hashes_of(entries)
    order = np.argsort(hashes, kind="stable")
    columns = {
        "hash": hashes[order],
        "offset": np.array(offsets, dtype="<u8")[order],
        "size": np.array(sizes, dtype="<u4")[order],
        "ends_ms": np.array([each.ends_ms for each in entries.values()], dtype="<i8")[order],
    }
    index = pa.BufferOutputStream()
    table = pa.table(columns, schema=_INDEX)
    with pa.ipc.new_stream(index, table.schema) as writer:
        writer.write_table(table)
    stream = index.getvalue().to_pybytes()
    at = records.tell()
    records.write(stream)
    records.write(_FOOTER.pack(_MAGIC, at, len(stream), zlib.crc32(stream)))
    return records.getvalue()


@final
@dataclass(frozen=True, slots=True)
class Segment:
    """A segment whose index is read, and whose file stays open."""

    file: Any
    """A random access file of pyarrow."""
    hashes: Hashes
    offsets: npt.NDArray[np.uint64]
    sizes: npt.NDArray[np.uint32]
    ends_ms: npt.NDArray[np.int64]

    @classmethod
    def read(cls, file: Any) -> Segment:
        """The segment in `file`.

        Raises:
            ValueError: it is none, or it is cut.
            OSError: it cannot be read.
        """
        size = file.size()
        if size < _FOOTER.size:
            raise ValueError("too short for a segment")
        footer = file.read_at(_FOOTER.size, size - _FOOTER.size)
        magic, index_at, index_size, checksum = _FOOTER.unpack(footer)
        if magic != _MAGIC or index_at + index_size + _FOOTER.size != size:
            raise ValueError("no footer of a segment")
        stream = file.read_at(index_size, index_at)
        if zlib.crc32(stream) != checksum:
            raise ValueError("an index that is damaged")
        try:
            table = pa.ipc.open_stream(stream).read_all()
        except (pa.ArrowException, OSError) as exc:
            raise ValueError("an index that is no Arrow stream") from exc
        if table.schema != _INDEX or any(column.null_count for column in table.columns):
            raise ValueError("an index of another form")
        hashes, offsets, sizes, ends_ms = (column.to_numpy() for column in table.columns)
        if len(offsets) and max(int(offsets.max()), int((offsets + sizes).max())) > index_at:
            raise ValueError("an index that points beyond the records")
        return cls(file, hashes, offsets, sizes, ends_ms)

    def find(self, hashes: Hashes) -> npt.NDArray[np.int64]:
        """The row of each hash, -1 where there is none."""
        rows = np.searchsorted(self.hashes, hashes)
        inside = np.minimum(rows, max(0, len(self.hashes) - 1))
        if not len(self.hashes):
            return np.full(len(hashes), -1)
        return np.where(self.hashes[inside] == hashes, inside, -1)

    def records(self, rows: Sequence[int]) -> dict[int, tuple[bytes, bytes]]:
        """The key and the value at each of `rows`; neighbours are read together.

        Raises:
            OSError: the file cannot be read any more.
        """
        found = {}
        for group in self._neighbours(rows):
            _, first, _ = group[0]
            _, last, last_size = group[-1]
            block = self.file.read_at(last + last_size - first, first)
            for row, offset, size in group:
                at = offset - first
                if size >= _KEY_SIZE.size and at + size <= len(block):
                    (key_size,) = _KEY_SIZE.unpack_from(block, at)
                    key_at = at + _KEY_SIZE.size
                    value_at = key_at + key_size
                    found[row] = block[key_at:value_at], block[value_at : at + size]
        return found

    def _neighbours(self, rows: Sequence[int]) -> Iterator[list[tuple[int, int, int]]]:
        """Rows with their offsets and sizes, in groups that one read takes."""
        chosen = np.asarray(rows, dtype=np.int64)
        chosen = chosen[np.argsort(self.offsets[chosen])]
        group: list[tuple[int, int, int]] = []
        begun = ended = 0
        for row, offset, size in zip(
            chosen.tolist(),
            self.offsets[chosen].tolist(),
            self.sizes[chosen].tolist(),
            strict=True,
        ):
            if group and (offset > ended + GAP_BYTES or offset + size - begun > READ_BYTES):
                yield group
                group = []
            if not group:
                begun = offset
            group.append((row, offset, size))
            ended = offset + size
        if group:
            yield group
