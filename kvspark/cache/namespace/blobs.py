"""Large contents in the store, in parts that are known by their own hash.

    list    SHA-256 of a content   ->  its parts: BLAKE2b-256 (32 bytes) and size (4, little-endian), each
    part    its BLAKE2b-256        ->  its bytes, 1 MiB at the most
    mark    its BLAKE2b-256        ->  one byte: it was written less than half a life ago

Contents that have parts in common share them: of a model's next version only the tensors that changed
are written. Lists and marks live half as long as parts, so that what a list names has half
its life before it; what is still wanted then is written again. All three are entries as those of any
stage: keyed by the namespace, with header and checksum, and safe to lose. Whoever reads must have another source.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b, sha256
from typing import final

import numpy as np

from kvspark.cache.guard.guard import CacheStats
from kvspark.cache.stage.stage_cache import StageCache
from kvspark.spec import Rows, TensorSpec

PART_BYTES = 2**20
"""The largest reply that a server gives without making others wait (kvspark.cache.guard.guard)."""

BYTES_SPEC = (TensorSpec("bytes", "uint8", (None,)),)
"""What an entry of a list, a part or a mark holds."""

HALF = 0.5
"""Of a part's life, for its mark and for lists."""

_HASH_BYTES = 32
_LINE_BYTES = _HASH_BYTES + 4


@final
class Contents:
    """Contents by their SHA-256; made by `Cache.contents`, whose errors it counts as its own."""

    def __init__(
        self,
        parts: StageCache,
        marks: StageCache,
        lists: StageCache,
        drain: Callable[[], CacheStats],
    ) -> None:
        self._parts = parts
        self._marks = marks
        self._lists = lists
        self._drain = drain

    def has(self, digest: str) -> bool:
        """True if the content with SHA-256 `digest` (hex) was put, and has half of its life left."""
        return _values(self._lists, [bytes.fromhex(digest)])[0] is not None

    def put(self, digest: str, pieces: Iterable[memoryview]) -> int | None:
        """The bytes of the content `digest` that the store did not have; None if it did not take them.

        pieces: the content from its start to its end, cut where other contents may have the same
            piece: at tensors.

        Guarantees: never raises for trouble with the store; a content that was not taken is not
        listed.
        """
        self._drain()
        lines, sent_bytes = list[bytes](), 0
        parts = list(_parts(pieces))
        at = 0
        for count in _batches(map(len, parts)):
            batch = parts[at : at + count]
            at += count
            names = [blake2b(part, digest_size=_HASH_BYTES).digest() for part in batch]
            lines += [
                name + len(part).to_bytes(4, "little")
                for name, part in zip(names, batch, strict=True)
            ]
            marks = _values(self._marks, names)
            new = {
                name: part
                for name, part, mark in zip(names, batch, marks, strict=True)
                if mark is None
            }
            if new:
                _insert(self._parts, list(new), list(new.values()))
                if self._went_wrong():
                    return None
                _insert(self._marks, list(new), [memoryview(b"\x01")] * len(new))
                sent_bytes += sum(map(len, new.values()))
        _insert(self._lists, [bytes.fromhex(digest)], [memoryview(b"".join(lines))])
        return None if self._went_wrong() else sent_bytes

    def get(self, digest: str, size_bytes: int) -> bytearray | None:
        """The content of `size_bytes` bytes whose SHA-256 is `digest` (hex); None if it is not all there.

        Guarantees: never raises for trouble with the store; what it gives has that SHA-256.
        """
        listed = _values(self._lists, [bytes.fromhex(digest)])[0]
        if listed is None or len(listed) % _LINE_BYTES:
            return None
        lines = [bytes(listed[at : at + _LINE_BYTES]) for at in range(0, len(listed), _LINE_BYTES)]
        sizes = [int.from_bytes(line[_HASH_BYTES:], "little") for line in lines]
        if sum(sizes) != size_bytes:
            return None
        content, at, end = bytearray(size_bytes), 0, 0
        for count in _batches(sizes):
            names = [line[:_HASH_BYTES] for line in lines[at : at + count]]
            for size, part in zip(sizes[at:], _values(self._parts, names), strict=False):
                if part is None or len(part) != size:
                    return None
                content[end : end + size] = part
                end += size
            at += count
        return content if sha256(content).hexdigest() == digest else None

    def _went_wrong(self) -> bool:
        stats = self._drain()
        return bool(stats.errors or stats.degraded)


def _values(space: StageCache, rows: Sequence[bytes]) -> list[memoryview | None]:
    """The bytes of each row, None for a miss; all of them together should be about 1 MiB."""
    lookup = space.lookup(space.digests(rows))
    found = iter(lookup.columns[0])
    return [memoryview(next(found).tobytes()) if hit else None for hit in lookup.found]


def _insert(space: StageCache, rows: Sequence[bytes], values: Sequence[memoryview]) -> None:
    arrays: Rows = [np.frombuffer(value, dtype=np.uint8) for value in values]
    space.insert(space.digests(rows), (arrays,), cost_us=0)


def _parts(pieces: Iterable[memoryview]) -> Iterator[memoryview]:
    for piece in pieces:
        plain = piece.cast("B")
        for start in range(0, len(plain), PART_BYTES):
            yield plain[start : start + PART_BYTES]


def _batches(sizes: Iterable[int]) -> Iterator[int]:
    """How many of the next parts go together: about `PART_BYTES`, and one at least."""
    count, size_bytes = 0, 0
    for size in sizes:
        if count and size_bytes + size > PART_BYTES:
            yield count
            count, size_bytes = 0, 0
        count += 1
        size_bytes += size
    if count:
        yield count
