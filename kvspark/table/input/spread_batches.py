"""A few rows from several places of a table; what lies between is not read where it is not in the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import final

import pyarrow as pa
import pyarrow.parquet as pq

from kvspark.table.input.split_reader import SplitReader
from kvspark.table.input.splits import Piece
from kvspark.table.input.table_file import TableFile

_READ_AT_ONCE = 256 << 10
"""Bytes of a column, until a page is there. Arrow would read a whole row group of it first."""


def spread_batches(
    reader: SplitReader,
    columns: Sequence[str],
    *,
    places: int,
    rows: int,
    goes_on: Callable[[], bool],
) -> list[pa.RecordBatch]:
    """About `rows` rows that follow each other, from up to `places` places of the table, in its order.

    From the first and the last row group, and from some between them; of fewer row groups than places, from several
    places of each, and from the very end. `goes_on` is asked before each one but the first: where it says no, fewer
    places will do, far ones first.

    Raises:
        DataError, SecretError: as `SplitReader.batches`.
    """
    groups = [
        _Group(reader.files[piece.file], piece, group)
        for split in reader.splits
        for piece in split
        for group in piece.groups
    ]
    if not groups:
        return []
    wanted = _wanted(len(groups), places)
    order = list(wanted)
    kept = pa.schema([reader.schema.field(name) for name in columns])
    reader = replace(reader, schema=kept, places=None)
    found: dict[int, list[pa.RecordBatch]] = {}
    for number in _far_ones_first(len(order)):
        if found and not goes_on():
            break
        place = order[number]
        with reader.reading(groups[place].file):
            found[place] = list(_some_of(reader, groups[place], wanted[place], rows, goes_on))
    return [batch for place in sorted(found) for batch in found[place] if batch.num_rows]


@final
@dataclass(frozen=True, slots=True)
class _Group:
    """A row group of a table."""

    file: TableFile
    piece: Piece
    number: int


def _wanted(groups: int, places: int) -> dict[int, list[float]]:
    """Of which row groups rows are wanted, and from where in them, as parts of their rows."""
    last = max(1, places - 1)
    if groups >= places:
        return {round(number * (groups - 1) / last): [0.0] for number in range(places)}
    found: dict[int, list[float]] = {}
    for number in range(places):
        place = number * groups / last
        group = min(int(place), groups - 1)
        found.setdefault(group, []).append(place - group)
    return found


def _far_ones_first(count: int) -> list[int]:
    """0 to `count` - 1: both ends, then the middle, then what is halfway between those."""
    found = dict.fromkeys([count - 1, 0])
    step = count
    while step > 1:
        step = (step + 1) // 2
        found |= dict.fromkeys(range(step, count, step))
    return list(found)


def _some_of(
    reader: SplitReader,
    group: _Group,
    parts: Sequence[float],
    rows: int,
    goes_on: Callable[[], bool],
) -> Iterator[pa.RecordBatch]:
    """Rows of `group`, from each of `parts` of it on."""
    with pq.ParquetFile(
        group.file.pinned.open(),
        pre_buffer=False,
        buffer_size=_READ_AT_ONCE,
        coerce_int96_timestamp_unit="us",
        page_checksum_verification=True,
    ) as parquet:
        counts = {each: parquet.metadata.row_group(each).num_rows for each in group.piece.groups}
        before = sum(count for each, count in counts.items() if each < group.number)
        # Half of `rows` before the end at least: the very last batch may be of one row.
        most = max(0, counts[group.number] - rows // 2)
        wanted = [min(int(part * counts[group.number]), most) for part in parts]
        names = reader.names(parquet.schema_arrow)
        row = 0
        for batch in parquet.iter_batches(rows, row_groups=[group.number], columns=names):
            if row + batch.num_rows > wanted[0]:
                wanted = [place for place in wanted if place >= row + batch.num_rows]
                yield reader.made(batch, group.file, group.piece.first_row + before + row)
            row += batch.num_rows
            if not wanted or not goes_on():
                return
