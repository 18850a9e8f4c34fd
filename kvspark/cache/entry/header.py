"""The bytes of one entry: a self-describing header, the tensors of one row, and what closes it.

Little-endian throughout; the payload starts at a multiple of 8.

    offset  bytes
    0       4    "KVS1"
    4       1    version = 2
    5       1    flags: 1 sealed, 2 negative, 4 lossy; negative and lossy are not in use
    6       1    codec of the payload
    7       1    number of tensors
    8       2    number of the sealing key; 0 = not sealed
    10      2    label of the identity: which machines' arithmetic; only for `kvspark purge`
    12      4    raw_len: bytes of the payload before the codec
    16      4    payload_len: bytes of the payload as stored
    20      4    created, seconds since 1970
    24      4    cost: microseconds that computing the row took
    28      16   the second half of the digest; the key holds the first
    44      -    per tensor: dtype u8, number of dims u8, 0 u16, dims u32 each
    -       -    zeros up to a multiple of 8
    -       -    payload: the tensors' bytes in C order, one after the other, through the codec
    -8      8    XXH3-64 of everything before, the highest byte first; of a sealed entry instead
    -28     16   the tag of AES-256-GCM, whose cipher the payload is
    -12     12   the nonce

A reader trusts nothing. It knows the tensors that it expects and whether they must be sealed, and a
value that differs in any way is a miss with a reason; it never raises, and never allocates by a
size that it has not checked.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from kvspark.cache.entry.codec import Codec, codec_coded
from kvspark.cache.key.key import HALF_BYTES
from kvspark.cache.seal.base import CORRUPT, TAIL_AT, TENSORS_AT, Reason, Seal
from kvspark.errors import UsageError
from kvspark.spec import ITEM_BYTES, TensorSpec

MAX_ENTRY_BYTES = 4 * 2**20
"""Larger values are not stored: a Redis server is blocked for milliseconds when one goes."""

LABEL_AT = 10
RAW_LEN_AT = 12
TIMES_AT = 20
COST_AT = 24

OVERSIZE = "oversize"
"""Longer than this reader accepts."""
FOREIGN = "foreign"
"""Not an entry, or one of a version, flag or codec that this reader does not know."""
UNEXPECTED = "unexpected"
"""An entry with other tensors than the stage has."""
MISPLACED = "misplaced"
"""An entry of another row."""
NOT_SEALED = "not_sealed"
"""An entry in clear where entries are sealed: anybody could have written it."""

_START = b"KVS1\x02"
_FIXED = struct.Struct("<5sBBBHHIIII16s")
_U8_MAX = 2**8 - 1
_U32_MAX = 2**32 - 1

# Codes are stored: a code is never used again for something else.
_DTYPE_CODES = {
    "float32": 1,
    "float64": 2,
    "float16": 3,
    "bfloat16": 4,
    "int8": 5,
    "int16": 6,
    "int32": 7,
    "int64": 8,
    "uint8": 9,
    "bool": 10,
}


def created_s(entry: bytes) -> int:
    """Seconds since 1970 at which an entry was written; 0 of what is none."""
    return int.from_bytes(entry[TIMES_AT:COST_AT], "little") if is_entry(entry) else 0


def label(entry: bytes) -> int:
    """The label of the identity that wrote an entry."""
    return int.from_bytes(entry[LABEL_AT:RAW_LEN_AT], "little")


def is_entry(value: bytes) -> bool:
    """True if `value` begins as an entry of this version does."""
    return value.startswith(_START) and len(value) >= TENSORS_AT


def cost_us(entry: bytes) -> int:
    """Microseconds that the row of a right entry took to compute."""
    return int.from_bytes(entry[COST_AT:TAIL_AT], "little")


@final
@dataclass(frozen=True, slots=True)
class Opened:
    """An entry that is right in every way."""

    raw: bytes
    """The tensors' bytes, decoded."""
    shapes: tuple[tuple[int, ...], ...]


@final
class EntryHeader:
    """Packs and checks the header of one stage's entries, whose tensors are `specs`.

    Raises:
        UsageError: `specs` is empty, holds text, or does not fit a header.
    """

    def __init__(self, specs: Sequence[TensorSpec], label: int = 0) -> None:
        _check(specs)
        self._label = label
        self._specs = tuple(specs)
        # All tensors at once: without padding, because each has 4 bytes in front of its dims.
        self._tensors = struct.Struct("<" + "".join(f"BBH{len(s.shape)}I" for s in specs))
        self.size_bytes = -(-(TENSORS_AT + self._tensors.size) // 8) * 8
        """Bytes of the header, padding included; the same for all rows of the stage."""
        self._items = [ITEM_BYTES[spec.dtype] for spec in specs]
        self._dims: list[slice] = []
        """Where the dims of each tensor are among the numbers of `_tensors`."""
        self._known: list[tuple[int, int]] = []
        """Numbers that are the same for all rows, by their place."""
        at = 0
        for spec in specs:
            self._dims.append(slice(at + 3, at + 3 + len(spec.shape)))
            numbers = (_DTYPE_CODES[spec.dtype], len(spec.shape), 0, *spec.shape)
            self._known += [(at + i, n) for i, n in enumerate(numbers) if n is not None]
            at += len(numbers)

    def pack(
        self,
        codec: Codec,
        seal: Seal,
        *,
        lengths: tuple[int, int],
        times: tuple[int, int],
        tail: bytes,
        shapes: Sequence[Sequence[int]],
    ) -> bytes:
        """A header; `lengths` are raw_len and payload_len, `times` created and cost."""
        tensors: list[int] = []
        for spec, shape in zip(self._specs, shapes, strict=True):
            tensors += (_DTYPE_CODES[spec.dtype], len(shape), 0, *shape)
        start = (_START, seal.flags, codec.code, len(self._specs), seal.key_id, self._label)
        fixed = _FIXED.pack(*start, *lengths, *map(u32, times), tail)
        return (fixed + self._tensors.pack(*tensors)).ljust(self.size_bytes, b"\0")

    def open(self, value: bytes, digest: bytes, max_bytes: int, seal: Seal) -> Opened | Reason:
        """The entry in `value` if it is the one of `digest`, else the reason why it is not."""
        reason = self._refuse_start(value, max_bytes, seal)
        if reason is not None:
            return reason
        shapes = self._shapes(value)
        if shapes is None:
            return UNEXPECTED
        reason = self._refuse_lengths(value, shapes, max_bytes, seal.end_bytes)
        if reason is not None:
            return reason
        _, _, code, _, _, _, raw_len, _, _, _, tail = _FIXED.unpack_from(value)
        if tail != digest[HALF_BYTES:]:
            return MISPLACED
        payload = seal.open_one(value, digest, self.size_bytes)
        if isinstance(payload, Reason):
            return payload
        codec = codec_coded(code)
        if codec is None:
            return FOREIGN
        try:
            raw = codec.decode(payload, raw_len)
        except ValueError:
            return CORRUPT
        return Opened(raw, shapes)

    def _refuse_start(self, value: bytes, max_bytes: int, seal: Seal) -> Reason | None:
        if len(value) > max_bytes:
            return OVERSIZE
        if not value.startswith(_START):
            return CORRUPT if _START.startswith(value) else FOREIGN
        if len(value) < TENSORS_AT + seal.end_bytes:
            return CORRUPT
        _, flags, code, count, key_id, label, *_ = _FIXED.unpack_from(value)
        if not flags and seal.flags:
            return NOT_SEALED
        if flags != seal.flags or bool(key_id) != bool(seal.key_id) or label != self._label:
            return FOREIGN
        if codec_coded(code) is None:
            return FOREIGN
        if count != len(self._specs):
            return UNEXPECTED
        return CORRUPT if len(value) < self.size_bytes + seal.end_bytes else None

    def _refuse_lengths(
        self, value: bytes, shapes: Sequence[tuple[int, ...]], max_bytes: int, end_bytes: int
    ) -> Reason | None:
        _, _, _, _, _, _, raw_len, payload_len, *_ = _FIXED.unpack_from(value)
        if len(value) != self.size_bytes + payload_len + end_bytes:
            return CORRUPT
        if raw_len > max_bytes or _reach_bytes(self._items, shapes) > max_bytes:
            return OVERSIZE
        return CORRUPT if raw_len != _raw_bytes(self._items, shapes) else None

    def _shapes(self, value: bytes) -> tuple[tuple[int, ...], ...] | None:
        """The shapes of the tensors, None where they are not such as are expected."""
        numbers = self._tensors.unpack_from(value, TENSORS_AT)
        for at, known in self._known:
            if numbers[at] != known:
                return None
        return tuple([numbers[dims] for dims in self._dims])


def _raw_bytes(items: Sequence[int], shapes: Sequence[tuple[int, ...]]) -> int:
    return sum([item * math.prod(shape) for item, shape in zip(items, shapes, strict=True)])


def _reach_bytes(items: Sequence[int], shapes: Sequence[tuple[int, ...]]) -> int:
    """As `_raw_bytes`, with empty dims as one: numpy refuses empty arrays whose other dims are huge."""
    return _raw_bytes(items, [tuple([dim or 1 for dim in shape]) for shape in shapes])


def u32(number: int) -> int:
    """`number`, or the end of the range of 32 bits that it is beyond."""
    return min(max(number, 0), _U32_MAX)


def _check(specs: Sequence[TensorSpec]) -> None:
    if not 0 < len(specs) <= _U8_MAX:
        raise UsageError(f"an entry holds 1 to {_U8_MAX} tensors, got {len(specs)}")
    for spec in specs:
        if spec.dtype not in _DTYPE_CODES:
            raise UsageError(
                f"tensor {spec.name} has dtype {spec.dtype}, which has no entry; "
                f"cache one of {', '.join(_DTYPE_CODES)}"
            )
        dims = [dim or 0 for dim in spec.shape]
        if len(dims) > _U8_MAX or any(not 0 <= dim <= _U32_MAX for dim in dims):
            raise UsageError(f"tensor {spec.name} of shape {spec.shape} does not fit an entry")
