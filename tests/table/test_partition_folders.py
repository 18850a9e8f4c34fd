"""Folders of a partitioned table; tests/spark/writing compares them with those of Spark."""

from __future__ import annotations

import datetime as dt

import pyarrow as pa
import pytest

from kvspark.table.partition_folders import PartitionFolders, escaped, has_folder_name

SCHEMA = pa.schema([("day", pa.date32()), ("x", pa.int64()), ("ok", pa.bool_())])


def rows() -> pa.RecordBatch:
    days = [dt.date(2026, 1, 1), None, dt.date(2026, 1, 1), dt.date(9, 1, 2), None]
    return pa.record_batch(
        [
            pa.array(days, pa.date32()),
            pa.array(range(5)),
            pa.array([True, None, True, False, None]),
        ],
        schema=SCHEMA,
    )


def test_rows_are_split_by_all_columns_and_lose_these() -> None:
    split = dict(PartitionFolders(SCHEMA, ["ok", "day"]).split(rows()))
    nothing = "__HIVE_DEFAULT_PARTITION__"
    assert {folder: each["x"].to_pylist() for folder, each in split.items()} == {
        "ok=true/day=2026-01-01": [0, 2],
        f"ok={nothing}/day={nothing}": [1, 4],
        "ok=false/day=0009-01-02": [3],
    }
    assert all(each.schema.names == ["x"] for each in split.values())


def test_a_table_without_partitions_has_one_folder() -> None:
    ((folder, all_rows),) = PartitionFolders(SCHEMA, []).split(rows())
    assert folder == ""
    assert all_rows.equals(rows())


def test_dates_that_python_has_not_have_a_folder() -> None:
    days = pa.array([2932897, -719529], pa.int32()).cast(pa.date32())
    table = pa.record_batch({"day": days, "x": [1, 2]})
    folders = [folder for folder, _ in PartitionFolders(table.schema, ["day"]).split(table)]
    assert folders == ["day=+10000-01-01", "day=-0001-12-31"]


def test_what_a_folder_cannot_be_called_is_escaped() -> None:
    assert escaped("a/b=c:%é 1") == "a%2Fb%3Dc%3A%25é 1"


@pytest.mark.parametrize(
    ("kind", "has"),
    [
        (pa.string(), True),
        (pa.int8(), True),
        (pa.float64(), False),
        (pa.timestamp("us", "UTC"), False),
        (pa.decimal128(9, 2), False),
    ],
)
def test_kinds_whose_text_is_the_same_everywhere(kind: pa.DataType, has: bool) -> None:
    assert has_folder_name(kind) is has
