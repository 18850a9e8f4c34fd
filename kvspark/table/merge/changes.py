"""What has become of the rows of a table between two versions, told from the ids in the files that came and went.

Of each id the last change counts. A file that came has rows that are there, one that went rows that are not, and one of
change data says it of each row. Where an id is in files of both kinds of one commit, its row is there: it was changed, or
its file written again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from kvspark.errors import DataError
from kvspark.table.input.table_file import Deleted, ListedFile, TableFile
from kvspark.table.input.whole_file import PLACES, rows_in, rows_of
from kvspark.table.merge.row_ids import RowIds, id_values
from kvspark.wording import count_of

Kind: TypeAlias = Literal["came", "went", "said"]
"""Of a file: rows that are there now, rows that were, or rows of which each says it in `CHANGE`."""

CHANGE = "_change_type"
_THERE = pa.array(["insert", "update_postimage"])
"""Source: https://github.com/delta-io/delta/blob/master/PROTOCOL.md#change-data-files"""


@final
@dataclass(frozen=True, slots=True)
class ChangedFile:
    """A file that a table lists, or did."""

    listed: ListedFile
    kind: Kind
    order: int = 0
    """Of its commit: a later one has a higher number."""


@final
@dataclass(frozen=True, slots=True)
class Changes:
    """The rows that were changed."""

    new: Mapping[int, Deleted | None]
    """By the number of a file that has new rows of the table, those of its rows that are none, if any."""
    ids: RowIds
    """Of all rows that came, changed or went."""


def net_files(now: Sequence[ListedFile], before: Sequence[ListedFile]) -> list[ChangedFile]:
    """The files that are in one of two versions only, or have other deleted rows in each."""
    of_now = {file.location: file for file in now}
    of_then = {file.location: file for file in before}

    def has(there: Mapping[str, ListedFile], file: ListedFile) -> bool:
        return file.location in there and there[file.location].deleted == file.deleted

    came = [ChangedFile(file, "came") for file in now if not has(of_then, file)]
    return [*came, *(ChangedFile(file, "went") for file in before if not has(of_now, file))]


def changes_in(
    files: Sequence[ChangedFile], there: Sequence[TableFile], schema: pa.Schema, table: str
) -> Changes:
    """What `files` say, which are found as `there`; their ids are the columns `schema`. `table` is for messages.

    Holds all ids of these files in memory, and no other column.

    Raises:
        DataError: a file cannot be read, or a row that is there has no id or that of another.
    """
    found = _read(files, there, schema)
    nameless = ~pc.is_valid(found.ids).to_numpy(zero_copy_only=False)
    lost = int((nameless & found.is_there).sum())
    if lost:
        raise _unknown(table, schema, f"is null in {count_of(lost, 'row')} that came")
    last, twice = _last(found, np.flatnonzero(~nameless))
    if twice:
        raise _unknown(table, schema, f"is not unique: {count_of(twice, 'row')} more than ids")
    new = last[found.is_there[last]]
    kept = {
        number: _others(there[number], found.place[new[found.file[new] == number]])
        for number in np.unique(found.file[new]).tolist()
    }
    return Changes(kept, RowIds(found.rows.take(pa.array(last))))


@final
@dataclass(frozen=True, slots=True)
class _Found:
    """Rows of files of both kinds, in no order; all fields are of one length."""

    rows: pa.Table
    ids: pa.Array
    """One value of each row."""
    file: npt.NDArray[np.int64]
    place: npt.NDArray[np.int64]
    order: npt.NDArray[np.int64]
    is_there: npt.NDArray[np.bool_]


def _read(files: Sequence[ChangedFile], there: Sequence[TableFile], schema: pa.Schema) -> _Found:
    batches, is_there = [], [np.empty(0, bool)]
    number, place, order = ([np.empty(0, np.int64)] for _ in range(3))
    for at, (file, found) in enumerate(zip(files, there, strict=True)):
        for batch in _rows(file, found, schema):
            batches.append(batch.select(schema.names).cast(schema))
            number.append(np.full(batch.num_rows, at))
            place.append(batch.column(PLACES[1]).to_numpy())
            order.append(np.full(batch.num_rows, file.order))
            is_there.append(_are_there(file, batch))
    rows = pa.Table.from_batches(batches, schema=schema)
    at_file, at_place, when = (np.concatenate(each) for each in (number, place, order))
    kept = np.flatnonzero(~_same(files, at_file, at_place))
    rows = rows.take(pa.array(kept))
    ids = id_values(rows)
    ids = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
    return _Found(
        rows, ids, at_file[kept], at_place[kept], when[kept], np.concatenate(is_there)[kept]
    )


def _same(
    files: Sequence[ChangedFile], at_file: npt.NDArray[np.int64], place: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """True for rows of a file that both came and went, since others of its rows are deleted: these were not."""
    names = {name: number for number, name in enumerate({file.listed.location for file in files})}
    numbers = np.array([names[file.listed.location] for file in files], np.int64)
    if len(names) == len(files):
        return np.zeros(len(place), bool)
    rows = numbers[at_file] * (place.max(initial=0) + 1) + place
    _, of_row, times = np.unique(rows, return_inverse=True, return_counts=True)
    same: npt.NDArray[np.bool_] = times[of_row] > 1
    return same


def _rows(file: ChangedFile, found: TableFile, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    wanted = schema
    if file.kind == "said":
        wanted = schema.append(pa.field(CHANGE, pa.string()))
    return rows_of(found, wanted, is_placed=True)


def _are_there(file: ChangedFile, batch: pa.RecordBatch) -> npt.NDArray[np.bool_]:
    if file.kind != "said":
        return np.full(batch.num_rows, file.kind == "came")
    said = pc.is_in(batch.column(CHANGE), value_set=_THERE)
    mask: npt.NDArray[np.bool_] = said.to_numpy(zero_copy_only=False)
    return mask


def _last(found: _Found, named: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], int]:
    """Of each id the row that counts, among those at `named`; and how many of these are there twice."""
    coded = found.ids.dictionary_encode().indices.fill_null(0).to_numpy(zero_copy_only=False)
    ids, when = coded[named], 2 * found.order[named] + found.is_there[named]
    order = np.lexsort((when, ids))
    ids, when = ids[order], when[order]
    is_last = np.append(ids[1:] != ids[:-1], True) if len(ids) else np.empty(0, bool)
    is_same = (ids[1:] == ids[:-1]) & (when[1:] == when[:-1]) & (when[1:] % 2 == 1)
    return named[order[is_last]], int((is_same & is_last[1:]).sum())


def _others(file: TableFile, places: npt.NDArray[np.int64]) -> Deleted | None:
    """The rows of `file` that are not at `places`."""
    mask = np.ones(rows_in(file), bool)
    mask[places] = False
    return Deleted.of(np.flatnonzero(mask)) if mask.any() else None


def _unknown(table: str, schema: pa.Schema, what: str) -> DataError:
    return DataError(
        f"input {table}: {', '.join(schema.names)} of output.merge_by {what}, so it is not known which row counts; nothing was "
        "written, give each row of the table an id of its own, or name more columns"
    )
