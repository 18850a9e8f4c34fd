"""Some rows from several places: which ones, and that no more is read than these and what is in the way."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kvspark.errors import DataError
from kvspark.table.input.pinned_file import PinnedFile, PinnedPath
from kvspark.table.input.split_reader import SplitReader
from kvspark.table.input.splits import Piece
from kvspark.table.input.spread_batches import spread_batches
from kvspark.table.input.table_file import Deleted, TableFile

SCHEMA = pa.schema([("X", pa.int64()), ("day", pa.string())])


def reader(folder: Path, groups: int, rows: int, deleted: Deleted | None = None) -> SplitReader:
    """Two files of `groups` row groups of `rows` rows each; of each file the first row group is a split of its own."""
    files, splits = [], []
    for number in range(2):
        path = folder / f"{number}.parquet"
        count = groups * rows
        x = np.arange(number * count, (number + 1) * count)
        table = pa.table({"x": x, "other": [b"\0" * 1_000] * count})
        pq.write_table(table, path, row_group_size=rows)
        files.append(TableFile(PinnedPath.at(path), {"day": f"day {number}"}, deleted))
        splits.append((Piece(number, (0,), 0),))
        if groups > 1:
            splits.append((Piece(number, tuple(range(1, groups)), rows),))
    return SplitReader(files, splits, SCHEMA, 10_000)


def always() -> bool:
    return True


def firsts(batches: list[pa.RecordBatch]) -> list[int]:
    return [batch.column("X")[0].as_py() for batch in batches]


def test_the_ends_and_the_middle_are_taken_where_there_are_many_row_groups(tmp_path: Path) -> None:
    found = spread_batches(reader(tmp_path, 4, 100), ["X", "day"], places=3, rows=7, goes_on=always)
    assert firsts(found) == [0, 400, 700]
    assert {batch.num_rows for batch in found} == {7}
    assert [batch.column("day")[0].as_py() for batch in found] == ["day 0", "day 1", "day 1"]
    assert found[0].schema.names == ["X", "day"]


def test_of_few_row_groups_several_places_are_taken(tmp_path: Path) -> None:
    found = spread_batches(reader(tmp_path, 1, 100), ["X"], places=8, rows=5, goes_on=always)
    assert firsts(found) == [0, 25, 55, 85, 110, 140, 170, 195]


def test_one_that_may_not_go_on_takes_the_far_end(tmp_path: Path) -> None:
    found = spread_batches(reader(tmp_path, 4, 100), ["X"], places=8, rows=5, goes_on=lambda: False)
    assert firsts(found) == [700]
    asked: Iterator[bool] = iter([True, False])
    found = spread_batches(
        reader(tmp_path, 4, 100), ["X"], places=8, rows=5, goes_on=lambda: next(asked, False)
    )
    assert firsts(found) == [0, 700]


class Counted(io.BytesIO):
    """A file that knows how many bytes of it were read."""

    read_bytes = 0

    def read(self, size: int | None = -1) -> bytes:
        found = super().read(size)
        self.read_bytes += len(found)
        return found


@final
class InMemory(PinnedFile):
    name = "memory"
    identity = ("memory",)

    def __init__(self, content: bytes) -> None:
        self.file = Counted(content)

    def open(self) -> pa.NativeFile:
        return pa.PythonFile(self.file, mode="r")


def test_a_few_pages_of_the_columns_are_read_and_no_row_group() -> None:
    x = np.random.default_rng(0).integers(0, 2**60, 1_000_000)
    sink = io.BytesIO()
    table = pa.table({"X": x, "other": x})
    pq.write_table(
        table, sink, row_group_size=len(x) // 2, use_dictionary=False, data_page_size=64 << 10
    )
    file = InMemory(sink.getvalue())
    splits = [(Piece(0, (0, 1), 0),)]
    found = spread_batches(
        SplitReader([TableFile(file)], splits, SCHEMA.remove(1), 10_000),
        ["X"],
        places=2,
        rows=100,
        goes_on=always,
    )
    assert firsts(found) == [x[0], x[len(x) // 2]]
    assert file.file.read_bytes < 0.1 * len(sink.getvalue())


def test_rows_that_the_table_has_no_longer_are_left_out(tmp_path: Path) -> None:
    gone = Deleted.of(np.array([100, 102]))
    found = spread_batches(reader(tmp_path, 2, 100, gone), ["X"], places=4, rows=4, goes_on=always)
    assert found[1].column("X").to_pylist() == [101, 103]


def test_no_row_group_gives_none(tmp_path: Path) -> None:
    empty = SplitReader(reader(tmp_path, 1, 10).files, [], SCHEMA, 10)
    assert spread_batches(empty, ["X"], places=4, rows=4, goes_on=always) == []


def test_a_file_that_is_gone_is_one_line(tmp_path: Path) -> None:
    given = reader(tmp_path, 1, 10)
    (tmp_path / "1.parquet").unlink()
    with pytest.raises(DataError, match=r"1\.parquet.*nothing was published"):
        spread_batches(given, ["X"], places=4, rows=4, goes_on=always)
