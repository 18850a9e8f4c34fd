"""The rows of a look-up, decoded as their values come.

Slabs are decoded at once: what has just arrived is still near the processor, and the server works
on what comes next. Other values are decoded together at the end, which costs less a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import final

import numpy as np
import numpy.typing as npt

from kvspark.cache.entry.format import Decoded, EntryFormat
from kvspark.cache.entry.header import COST_AT, cost_us
from kvspark.cache.entry.table_reader import Opening, Rows
from kvspark.cache.seal.base import TAIL_AT, Table
from kvspark.store.value_table import Part, Scattered, Slab


@final
class Decoding:
    """Decodes the values of `digests`, which come in parts."""

    def __init__(self, entry_format: EntryFormat, digests: Sequence[bytes]) -> None:
        self._format = entry_format
        self._digests = digests
        self._found = np.zeros(len(digests), dtype=np.bool_)
        self._opening: Opening | None = None
        self._payloads: Table | None = None
        self._at = 0
        self._is_left: npt.NDArray[np.bool_] | None = None
        """Rows that no part had, from the first scattered part on; until then those from `_at` on."""
        self._values: list[bytes | None] = []
        """Those that did not come in slabs, or are not all right; where entries vary in size, all."""
        self._places: list[int] = []
        self._costs: list[bytes] = []
        """Of the rows that came in slabs; read when somebody asks what was saved."""
        self.present = 0
        """Values that are there, right or not."""
        self.size_bytes = 0
        """Their bytes."""

    def of(self, parts: Iterable[Part]) -> Decoded:
        """All rows."""
        for part in parts:
            self._take(part)
            del part  # the next one comes into its memory, which is near the processor still
        return self._done()

    def _take(self, part: Part) -> None:
        rows = self._rows_of(part)
        if isinstance(part, Scattered):
            part = part.part
        values: list[bytes | None]
        if isinstance(part, Slab):
            self.present += len(part)
            self.size_bytes += part.size_bytes
            if self._open_slab(part.table, rows):
                return
            values = [*part.values()]
        else:
            values = part
            present = [value for value in part if value is not None]
            self.present += len(present)
            self.size_bytes += sum(map(len, present))
        self._values += values
        self._places += range(rows.start, rows.stop) if isinstance(rows, slice) else rows.tolist()

    def _done(self) -> Decoded:
        if self._is_left is not None and self._places:
            self._values, self._places = _in_order(self._values, self._places)
        if not self._format.is_fixed:
            decoded = self._format.decode_many(self._values, self._digests)
            self._found = decoded.found
            return decoded
        if not self._places:
            return Decoded(self._found, self._format.columns.cut(self._room()), {})
        places = np.array(self._places)
        digests = [self._digests[place] for place in self._places]
        right, payloads, reasons = self._format.open_many(self._values, digests)
        in_slabs = self._found.copy()
        self._found[places[right]] = True
        if in_slabs.any():
            payloads = self._merged(payloads, in_slabs)
        return Decoded(self._found, self._format.columns.cut(payloads), reasons)

    def saved_us(self) -> int:
        """Microseconds that the rows which were found took to compute."""
        right = zip(self._values, self._found[self._places], strict=True)
        in_slabs = np.frombuffer(b"".join(self._costs), dtype="<u4")
        return int(in_slabs.sum()) + sum(
            [cost_us(value) for value, is_right in right if value and is_right]
        )

    def _rows_of(self, part: Part) -> Rows:
        if self._is_left is None:
            if not isinstance(part, Scattered):
                self._at += len(part)
                return slice(self._at - len(part), self._at)
            self._is_left = np.arange(len(self._digests)) >= self._at
        if isinstance(part, Scattered):
            rows = part.places
        else:
            rows = np.flatnonzero(self._is_left)[: len(part)]
        self._is_left[rows] = False
        return rows

    def _open_slab(self, table: Table, rows: Rows) -> bool:
        """True if all were right."""
        if self._opening is None:
            self._opening = self._format.opening(self._digests)
        if self._opening is None or table.shape[1] != self._format.entry_bytes:
            return False
        room = self._room()
        is_next = isinstance(rows, slice)
        payloads = room[rows] if is_next else np.empty((len(table), room.shape[1]), np.uint8)
        if not self._opening.open(table, rows, payloads):
            return False
        if not is_next:
            room[rows] = payloads
        self._costs.append(table[:, COST_AT:TAIL_AT].tobytes())
        self._found[rows] = True
        return True

    def _merged(self, listed: Table, in_slabs: npt.NDArray[np.bool_]) -> Table:
        """The payloads of slabs and of other values, in the order of their rows."""
        of_slabs = in_slabs[self._found]
        merged = np.empty((len(of_slabs), self._format.columns.size_bytes), dtype=np.uint8)
        merged[~of_slabs] = listed
        merged[of_slabs] = self._room()[in_slabs]
        return merged

    def _room(self) -> Table:
        if self._payloads is None:
            shape = (len(self._digests), self._format.columns.size_bytes)
            self._payloads = np.empty(shape, dtype=np.uint8)
        return self._payloads


def _in_order(
    values: list[bytes | None], places: list[int]
) -> tuple[list[bytes | None], list[int]]:
    order = np.argsort(places)
    return [values[at] for at in order], [places[at] for at in order]
