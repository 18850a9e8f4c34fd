"""What is in the log of a Delta table whose rows runs replace, beside other programs that write to it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from kvspark.errors import OutputError
from tests.table.publish.deltas import actions, files_in_log, last_version
from tests.table.publish.deltas import publisher_to as whole_publisher
from tests.table.publish.merging import (
    counts,
    ids,
    publish,
    read,
    scores,
    table,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "table"


def test_one_commit_takes_out_the_files_with_such_ids_and_no_others(folder: Path) -> None:
    publish(folder, "one", table({n: float(n) for n in range(9)}))
    before = files_in_log(folder)
    publish(folder, "two", table({1: 10.0, 20: 20.0}), ids(1, 7, 99))
    said = actions(folder, last_version(folder))
    assert len(said["remove"]) == 2
    assert len(before.keys() & files_in_log(folder).keys()) == 1
    publish(folder, "three", table({1: 1.0}).slice(0, 0))
    assert {"add", "remove"}.isdisjoint(actions(folder, last_version(folder)))


def test_rows_that_others_have_added_are_merged_too(folder: Path) -> None:
    publish(folder, "one", table({1: 1.0}))
    write_deltalake(folder, table({2: 2.0, 3: 3.0, 4: 4.0}), mode="append")
    publish(folder, "two", table({3: 30.0}))
    assert scores(folder) == {1: 1.0, 2: 2.0, 3: 30.0, 4: 4.0}
    # Rows of several runs are in one file now: nobody can say whose.
    with pytest.raises(OutputError, match=r"not known which run has added .*output\.mode: merge"):
        whole_publisher(folder, replaces="run").check("two")
    assert DeltaTable(folder).optimize.compact()["numFilesRemoved"] >= 2
    publish(folder, "three", table({4: 40.0}))
    assert scores(folder) == {1: 1.0, 2: 2.0, 3: 30.0, 4: 40.0}


def test_all_rows_of_an_id_that_was_there_twice_are_replaced_and_those_without_one_stay(
    folder: Path,
) -> None:
    publish(folder, "one", table({1: 1.0, 2: 2.0}))
    write_deltalake(folder, table({1: 5.0, None: 6.0}), mode="append")
    assert counts(publish(folder, "two", table({1: 10.0}))) == (2, 0)
    assert scores(folder) == {1: 10.0, 2: 2.0, None: 6.0}


def test_files_whose_bounds_have_no_such_id_are_not_opened(folder: Path) -> None:
    publish(folder, "one", table({n: float(n) for n in range(9)}))
    for each in folder.glob("runs/*/*c000*.parquet"):  # rows 0 to 2
        each.write_bytes(b"")
    publish(folder, "two", table({4: 40.0}))
    with pytest.raises(OutputError, match=r"output file .* nothing was published"):
        publish(folder, "three", table({1: 10.0}))


def test_a_date_that_python_has_not_is_no_bound_that_ends_a_run(folder: Path) -> None:
    days = pa.array([3_000_000, -800_000], pa.int32()).cast(pa.date32())
    rows = table({1: 1.0, 2: 2.0}).append_column("day", days)
    publish(folder, "one", rows)
    write_deltalake(folder, rows, mode="append")
    assert counts(publish(folder, "two", rows.slice(1))) == (2, 0)
    assert read(folder).num_rows == 3
