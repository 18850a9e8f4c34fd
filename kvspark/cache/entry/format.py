"""Columns of tensors into entries and back, many rows at a time.

The bytes of an entry are described in `kvspark.cache.entry.header`, what closes them in
`kvspark.cache.seal.base`. Headers of rows of a fixed size that are stored raw are written and checked as
one table, a column of bytes at a time; all others one by one. Reading takes the table only for
values that are right in every byte that it can compare, and gives the rest to the header's checks,
which say why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from kvspark.cache.entry.codec import RAW, Codec
from kvspark.cache.entry.columns import Columns
from kvspark.cache.entry.header import MAX_ENTRY_BYTES, TIMES_AT, EntryHeader, Opened, u32
from kvspark.cache.entry.table_reader import Opening
from kvspark.cache.key.key import HALF_BYTES
from kvspark.cache.seal.base import (
    CHECKSUM,
    KEY_ID_AT,
    KEY_ID_END,
    TAIL_AT,
    TENSORS_AT,
    Reason,
    Seal,
    Table,
    tails,
)
from kvspark.spec import Rows, TensorSpec


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

    `codec` is for writing; an entry of any known codec is read. `seal` is asked before each call
    how entries are closed; it always answers with a seal of the same `flags`.

    Raises:
        UsageError: `specs` is empty, holds text, or does not fit a header.
    """

    def __init__(
        self,
        specs: Sequence[TensorSpec],
        codec: Codec = RAW,
        *,
        seal: Callable[[], Seal] = lambda: CHECKSUM,
        label: int = 0,
        max_bytes: int = MAX_ENTRY_BYTES,
    ) -> None:
        self._codec = codec
        self.seal = seal
        self._max_bytes = max_bytes
        self._header = EntryHeader(specs, label)
        self.columns = Columns(specs)
        self.is_fixed = self.columns.is_fixed
        """True if all entries that are stored raw have `entry_bytes` bytes."""
        self._templates: dict[int, Table] = {}
        self.entry_bytes = self._header.size_bytes + self.columns.size_bytes + seal().end_bytes
        """Bytes of a raw entry; where they vary, of one whose varying tensors are empty."""

    def encode_many(
        self, digests: Sequence[bytes], columns: Sequence[Rows], *, created_s: int, cost_us: int
    ) -> list[bytes | None]:
        """One entry a row, None where it would be larger than `max_bytes`.

        columns: an array (n, *shape) or a list of n arrays for each spec, of the spec's dtype.

        Raises:
            UsageError: the columns are not those of the specs; a mistake of the caller.
        """
        checked = self.columns.checked(columns, len(digests))
        times, seal = (u32(created_s), u32(cost_us)), self.seal()
        if self.is_fixed and self._codec is RAW:
            return self._encode_table(digests, checked, times, seal)
        return [
            self._encode_one(digest, [rows[index] for rows in checked], times, seal)
            for index, digest in enumerate(digests)
        ]

    def decode_many(self, values: Sequence[bytes | None], digests: Sequence[bytes]) -> Decoded:
        """The rows that `values` hold; a value that is not its digest's is not found."""
        if self.is_fixed:
            found, payloads, why = self.open_many(values, digests)
            return Decoded(found, self.columns.cut(payloads), why)
        reasons: Counter[Reason] = Counter()
        found = np.zeros(len(values), dtype=np.bool_)
        entries = self._open_each(values, digests, found, reasons)
        found[list(entries)] = True
        return Decoded(found, self.columns.cut_each(list(entries.values())), dict(reasons))

    def open_many(
        self, values: Sequence[bytes | None], digests: Sequence[bytes]
    ) -> tuple[npt.NDArray[np.bool_], Table, Mapping[Reason, int]]:
        """Which values are right, their payloads, and what is wrong with others, by reason.

        For stages whose rows have a fixed size.
        """
        right = np.zeros(len(values), dtype=np.bool_)
        payloads = np.empty((0, self.columns.size_bytes), dtype=np.uint8)
        if self.entry_bytes <= self._max_bytes:
            payloads, places = self._decode_table(values, digests, self.seal())
            right[places] = True
            if len(places) == len(values):
                return right, payloads, {}
        reasons: Counter[Reason] = Counter()
        entries = self._open_each(values, digests, right, reasons)
        if entries:
            payloads = _merged(right, payloads, entries)
        return right, payloads, dict(reasons)

    def _open_each(
        self,
        values: Sequence[bytes | None],
        digests: Sequence[bytes],
        known: npt.NDArray[np.bool_],
        reasons: Counter[Reason],
    ) -> dict[int, Opened]:
        """The right entries by place, of the values that are not `known` already."""
        seal, opened = self.seal(), dict[int, Opened]()
        for index, value in enumerate(values):
            if value is not None and not known[index]:
                entry = self._header.open(value, digests[index], self._max_bytes, seal)
                if isinstance(entry, Opened):
                    opened[index] = entry
                else:
                    reasons[entry] += 1
        return opened

    def opening(self, digests: Sequence[bytes]) -> Opening | None:
        """What opens slabs of the entries of `digests`; None where none are: rows vary in size, or are too large.

        What is not right is for `open_many` to look at.
        """
        if not self.is_fixed or self.entry_bytes > self._max_bytes:
            return None
        seal = self.seal()
        return Opening(self._template(seal), seal, digests)

    def _template(self, seal: Seal) -> Table:
        """The header of all rows but for times and digest."""
        known = self._templates.get(seal.key_id)
        if known is None:
            known = self._templates[seal.key_id] = self._new_template(seal)
        return known

    def _new_template(self, seal: Seal) -> Table:
        header = self._header.pack(
            RAW,
            seal,
            lengths=(u32(self.columns.size_bytes),) * 2,
            times=(0, 0),
            tail=bytes(HALF_BYTES),
            shapes=self.columns.shapes,
        )
        return np.frombuffer(header, dtype=np.uint8)

    def _encode_table(
        self, digests: Sequence[bytes], columns: Sequence[Rows], times: tuple[int, int], seal: Seal
    ) -> list[bytes | None]:
        count, head = len(digests), self._header.size_bytes
        if self.entry_bytes > self._max_bytes or not count:
            return [None] * count
        table = np.empty((count, head), dtype=np.uint8)
        table[:] = self._template(seal)
        table[:, TIMES_AT:TAIL_AT] = np.array([times], dtype="<u4").view(np.uint8)
        table[:, TAIL_AT:TENSORS_AT] = tails(digests)
        return [*seal.close_table(table, self.columns.payloads(columns, count), digests)]

    def _encode_one(
        self,
        digest: bytes,
        arrays: Sequence[npt.NDArray[np.generic]],
        times: tuple[int, int],
        seal: Seal,
    ) -> bytes | None:
        room = self._max_bytes - self._header.size_bytes - seal.end_bytes
        if sum(array.nbytes for array in arrays) > room:
            return None
        raw = b"".join(array.tobytes() for array in arrays)
        payload = self._codec.encode(raw)
        if len(payload) > room:
            return None
        header = self._header.pack(
            self._codec,
            seal,
            lengths=(len(raw), len(payload)),
            times=times,
            tail=digest[HALF_BYTES:],
            shapes=[array.shape for array in arrays],
        )
        return seal.close_one(header, payload, digest)

    def _decode_table(
        self, values: Sequence[bytes | None], digests: Sequence[bytes], seal: Seal
    ) -> tuple[Table, npt.NDArray[np.intp]]:
        """The payloads of the raw values that are right in every byte, and their places."""
        likely, places = _of_size(values, self.entry_bytes)
        if not likely:
            return np.empty((0, self.columns.size_bytes), dtype=np.uint8), places
        if len(likely) < len(values):
            digests = [digests[i] for i in places]
        template = self._template(seal)
        opened = seal.open_many(likely, digests, self._header.size_bytes)
        payloads, right, table = opened.payloads, opened.right, opened.heads
        right &= (table[:, :KEY_ID_AT] == template[:KEY_ID_AT]).all(axis=1)
        right &= (table[:, KEY_ID_END:TIMES_AT] == template[KEY_ID_END:TIMES_AT]).all(axis=1)
        right &= (table[:, TAIL_AT:TENSORS_AT] == tails(digests)).all(axis=1)
        right &= (table[:, TENSORS_AT:] == template[TENSORS_AT:]).all(axis=1)
        if not seal.key_id:
            right &= (table[:, KEY_ID_AT:KEY_ID_END] == 0).all(axis=1)
        return (payloads, places) if right.all() else (payloads[right], places[right])


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


def _merged(found: npt.NDArray[np.bool_], payloads: Table, opened: Mapping[int, Opened]) -> Table:
    """The payloads of the rows that were found at once and of those in `opened`, in row order."""
    at_once = found.copy()
    found[list(opened)] = True
    is_at_once = at_once[found]
    merged = np.empty((len(is_at_once), payloads.shape[1]), dtype=np.uint8)
    merged[is_at_once] = payloads
    for row, entry in zip(np.flatnonzero(~is_at_once), opened.values(), strict=True):
        merged[row] = np.frombuffer(entry.raw, dtype=np.uint8)
    return merged
