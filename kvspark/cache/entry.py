"""Columns of tensors into entries and back, many rows at a time.

The bytes of an entry are described in `kvspark.cache.header`. Rows of a fixed size that are
stored raw are written and checked as one table, a column of bytes at a time; all others one by
one. Reading takes the table only for values that are right in every byte that it can compare,
and gives the rest to the header's checks, which say why.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from kvspark.cache.codec import RAW, Codec
from kvspark.cache.header import (
    CRC_BYTES,
    CRC_OF_WHOLE,
    MAX_ENTRY_BYTES,
    TAIL_AT,
    TENSORS_AT,
    TIMES_AT,
    EntryHeader,
    Opened,
    Reason,
    u32,
)
from kvspark.cache.key import HALF_BYTES
from kvspark.errors import UsageError
from kvspark.fingerprint import DIGEST_BYTES
from kvspark.spec import Rows, TensorSpec

_Table = npt.NDArray[np.uint8]
"""(rows, bytes)"""


@final
@dataclass(frozen=True, slots=True)
class Decoded:
    """The rows that some values hold."""

    found: npt.NDArray[np.bool_]
    """(n,): True where the value was there and right."""
    columns: tuple[Rows, ...]
    """The tensors of the found rows, in order; fresh, writable and contiguous."""
    reasons: Mapping[Reason, int]
    """How many values were there and not right, by reason."""


@final
class EntryFormat:
    """Writes and reads the entries of one stage, whose tensors are `specs`.

    `codec` is for writing; an entry of any known codec is read.

    Raises:
        UsageError: `specs` is empty, holds text, or does not fit a header.
    """

    def __init__(
        self,
        specs: Sequence[TensorSpec],
        codec: Codec = RAW,
        *,
        max_bytes: int = MAX_ENTRY_BYTES,
    ) -> None:
        self._specs = tuple(specs)
        self._codec = codec
        self._max_bytes = max_bytes
        self._header = EntryHeader(specs)
        self._dtypes = [spec.numpy_dtype for spec in specs]
        self._sizes = [spec.bytes_per_row or 0 for spec in specs]
        self.is_fixed = all(spec.is_fixed for spec in specs)
        """True if all entries that are stored raw have `entry_bytes` bytes."""
        self.entry_bytes = self._header.size_bytes + sum(self._sizes) + CRC_BYTES
        """Bytes of a raw entry; where they vary, of one whose varying tensors are empty."""
        self._template = self._fixed_template()
        self._joined_crcs = [0]

    def encode_many(
        self, digests: Sequence[bytes], columns: Sequence[Rows], *, created_s: int, cost_us: int
    ) -> list[bytes | None]:
        """One entry a row, None where it would be larger than `max_bytes`.

        columns: an array (n, *shape) or a list of n arrays for each spec, of the spec's dtype.

        Raises:
            UsageError: the columns are not those of the specs; a mistake of the caller.
        """
        if len(columns) != len(self._specs):
            raise UsageError(f"{len(columns)} columns to store, the stage has {len(self._specs)}")
        checked = [
            _checked(spec, column, len(digests))
            for spec, column in zip(self._specs, columns, strict=True)
        ]
        times = (u32(created_s), u32(cost_us))
        if self.is_fixed and self._codec is RAW:
            return self._encode_table(digests, checked, times)
        return [
            self._encode_one(digest, [rows[index] for rows in checked], times)
            for index, digest in enumerate(digests)
        ]

    def decode_many(self, values: Sequence[bytes | None], digests: Sequence[bytes]) -> Decoded:
        """The rows that `values` hold; a value that is not its digest's is not found."""
        found = np.zeros(len(values), dtype=np.bool_)
        payloads = np.empty((0, sum(self._sizes)), dtype=np.uint8)
        if self.is_fixed and self.entry_bytes <= self._max_bytes:
            payloads, places = self._decode_table(values, digests)
            found[places] = True
            if len(places) == len(values):
                return Decoded(found, self._cut_table(payloads), {})
        reasons: Counter[Reason] = Counter()
        opened: dict[int, Opened] = {}
        for index, value in enumerate(values):
            if value is not None and not found[index]:
                entry = self._header.open(value, digests[index], self._max_bytes)
                if isinstance(entry, Opened):
                    opened[index] = entry
                else:
                    reasons[entry] += 1
        if not self.is_fixed:
            found[list(opened)] = True
            return Decoded(found, self._cut_each(list(opened.values())), dict(reasons))
        if opened:
            payloads = _merged(found, payloads, opened)
        return Decoded(found, self._cut_table(payloads), dict(reasons))

    def _fixed_template(self) -> _Table:
        header = self._header.pack(
            RAW,
            lengths=(u32(sum(self._sizes)),) * 2,
            times=(0, 0),
            tail=bytes(HALF_BYTES),
            shapes=[_dims(spec) for spec in self._specs],
        )
        return np.frombuffer(header, dtype=np.uint8)

    def _encode_table(
        self, digests: Sequence[bytes], columns: Sequence[Rows], times: tuple[int, int]
    ) -> list[bytes | None]:
        count, size = len(digests), self.entry_bytes
        if size > self._max_bytes or not count:
            return [None] * count
        at = self._header.size_bytes
        table = np.empty((count, size), dtype=np.uint8)
        table[:, :at] = self._template
        table[:, TIMES_AT:TAIL_AT] = np.array([times], dtype="<u4").view(np.uint8)
        table[:, TAIL_AT:TENSORS_AT] = _tails(digests)
        for column, size_bytes in zip(columns, self._sizes, strict=True):
            if size_bytes:
                rows = np.ascontiguousarray(column).reshape(count, -1)
                table[:, at : at + size_bytes] = rows.view(np.uint8)
                at += size_bytes
        starts = range(0, count * size, size)
        view = table.reshape(-1).data
        crcs = [zlib.crc32(view[start : start + size - CRC_BYTES]) for start in starts]
        table[:, -CRC_BYTES:] = np.array(crcs, dtype="<u4").view(np.uint8).reshape(count, CRC_BYTES)
        whole = table.tobytes()
        return [whole[start : start + size] for start in starts]

    def _encode_one(
        self, digest: bytes, arrays: Sequence[npt.NDArray[np.generic]], times: tuple[int, int]
    ) -> bytes | None:
        room = self._max_bytes - self._header.size_bytes - CRC_BYTES
        if sum(array.nbytes for array in arrays) > room:
            return None
        raw = b"".join(array.tobytes() for array in arrays)
        payload = self._codec.encode(raw)
        if len(payload) > room:
            return None
        header = self._header.pack(
            self._codec,
            lengths=(len(raw), len(payload)),
            times=times,
            tail=digest[HALF_BYTES:],
            shapes=[array.shape for array in arrays],
        )
        body = header + payload
        return body + zlib.crc32(body).to_bytes(CRC_BYTES, "little")

    def _decode_table(
        self, values: Sequence[bytes | None], digests: Sequence[bytes]
    ) -> tuple[_Table, npt.NDArray[np.intp]]:
        """The payloads of the raw values that are right in every byte, and their places."""
        size = self.entry_bytes
        likely, places = _of_size(values, size)
        if len(likely) < len(values):
            digests = [digests[i] for i in places]
        joined = b"".join(likely)
        table = np.frombuffer(joined, dtype=np.uint8).reshape(-1, size)
        head = self._header.size_bytes
        right = np.ones(len(likely), dtype=np.bool_)
        if zlib.crc32(joined) != self._crc_of_joined(len(likely)):
            right[:] = [zlib.crc32(value) == CRC_OF_WHOLE for value in likely]
        right &= (table[:, :TIMES_AT] == self._template[:TIMES_AT]).all(axis=1)
        right &= (table[:, TAIL_AT:TENSORS_AT] == _tails(digests)).all(axis=1)
        right &= (table[:, TENSORS_AT:head] == self._template[TENSORS_AT:]).all(axis=1)
        payloads = table[:, head:-CRC_BYTES]
        if right.all():
            return payloads, places
        return payloads[right], places[right]

    def _crc_of_joined(self, count: int) -> int:
        """The CRC-32 of `count` right entries of `entry_bytes`, whatever they hold, in one string.

        One call for all of them takes two thirds of the time of one call each. The CRC-32 of `b`
        that goes on from `c` is that of `b` alone, xor what `c` becomes by as many zeros.
        """
        crcs = self._joined_crcs
        if len(crcs) <= count:
            crcs = crcs.copy()
            zeros = bytes(self.entry_bytes)
            while len(crcs) <= count:
                crcs.append(zlib.crc32(zeros, crcs[-1]) ^ zlib.crc32(zeros) ^ CRC_OF_WHOLE)
            # At once: another thread may be counting too.
            self._joined_crcs = crcs
        return crcs[count]

    def _cut_table(self, payloads: _Table) -> tuple[Rows, ...]:
        columns: list[Rows] = []
        at = 0
        for spec, size_bytes in zip(self._specs, self._sizes, strict=True):
            column = np.empty((len(payloads), *_dims(spec)), dtype=spec.numpy_dtype)
            if column.size:
                flat = column.reshape(len(payloads), -1).view(np.uint8)
                flat[:] = payloads[:, at : at + size_bytes]
            columns.append(column)
            at += size_bytes
        return tuple(columns)

    def _cut_each(self, entries: Sequence[Opened]) -> tuple[Rows, ...]:
        columns: list[list[npt.NDArray[np.generic]]] = [[] for _ in self._specs]
        for entry in entries:
            at = 0
            for dtype, shape, column in zip(self._dtypes, entry.shapes, columns, strict=True):
                size = math.prod(shape)
                if size:
                    array = np.frombuffer(entry.raw, dtype, size, at).reshape(shape).copy()
                    at += array.nbytes
                else:
                    array = np.empty(shape, dtype)
                column.append(array)
        return tuple(
            _stacked(spec, column) if spec.is_fixed else column
            for spec, column in zip(self._specs, columns, strict=True)
        )


def _checked(spec: TensorSpec, column: Rows, count: int) -> Rows:
    """`column` if it is `count` rows of `spec`; one array where the size of a row is fixed."""
    if len(column) != count:
        raise UsageError(f"tensor {spec.name} has {len(column)} rows for {count} digests")
    if isinstance(column, np.ndarray):
        kinds = {(column.dtype, column.shape[1:])}
    else:
        kinds = {(array.dtype, array.shape) for array in column}
    for dtype, shape in kinds:
        fits = len(shape) == len(spec.shape) and all(
            want in (None, got) for want, got in zip(spec.shape, shape, strict=True)
        )
        if dtype != spec.numpy_dtype or not fits:
            raise UsageError(
                f"tensor {spec.name} is {spec.numpy_dtype.name} {spec.shape} a row, "
                f"got {dtype.name} {shape}; store what the stage computed, unchanged"
            )
    return _stacked(spec, column) if spec.is_fixed and isinstance(column, list) else column


def _stacked(spec: TensorSpec, rows: Sequence[npt.NDArray[np.generic]]) -> npt.NDArray[np.generic]:
    return np.stack(rows) if rows else np.empty((0, *_dims(spec)), spec.numpy_dtype)


def _dims(spec: TensorSpec) -> tuple[int, ...]:
    return tuple(dim or 0 for dim in spec.shape)


def _tails(digests: Sequence[bytes]) -> _Table:
    table = np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, DIGEST_BYTES)
    return table[:, HALF_BYTES:]


def _of_size(
    values: Sequence[bytes | None], size: int
) -> tuple[Sequence[bytes], npt.NDArray[np.intp]]:
    """The values of exactly `size` bytes, and their places."""
    present = [value for value in values if value is not None]
    if len(present) == len(values) and set(map(len, present)) == {size}:
        # The usual case of a warm night, in half the time of the general one.
        return present, np.arange(len(values))
    places = [i for i, value in enumerate(values) if value is not None and len(value) == size]
    return [value for value in present if len(value) == size], np.array(places, dtype=np.intp)


def _merged(found: npt.NDArray[np.bool_], payloads: _Table, opened: Mapping[int, Opened]) -> _Table:
    """The payloads of the rows that were found at once and of those in `opened`, in row order."""
    at_once = found.copy()
    found[list(opened)] = True
    is_at_once = at_once[found]
    merged = np.empty((len(is_at_once), payloads.shape[1]), dtype=np.uint8)
    merged[is_at_once] = payloads
    for row, entry in zip(np.flatnonzero(~is_at_once), opened.values(), strict=True):
        merged[row] = np.frombuffer(entry.raw, dtype=np.uint8)
    return merged
