"""An Iceberg table is read as of one snapshot: types, columns by their ids, partitions, deleted rows; refusals; jobs."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.manifest import DataFileContent
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import (
    DateType,
    DoubleType,
    LongType,
    NestedField,
    StringType,
    TimeType,
)
from pyspark.sql import SparkSession

from kvspark.config.table.input_table import InputConfig
from kvspark.errors import DataError, SchemaError, UsageError
from kvspark.spark.sources.find_input import find_input
from kvspark.spark.sources.input.found_input import FoundInput
from kvspark.spark.sources.input.source import Source, read_source
from tests.spark.sources.every_type import every_type
from tests.spark.sources.iceberg_tables import Lake, delete_rows
from tests.spark.sources.twins import bits, rows_of, source

pytestmark = pytest.mark.spark

NOT_IN_ICEBERG = {
    "i8",
    "i16",
    "u8",
    "u16",
    "u32",
    "u64",
    "spell",
    "void",
    "nested",
    "map",
    "vector",
}
NOT_IN_ICEBERG |= {"ms", "zone", "struct", "dict", "large"}


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path)


def found(lake: Lake, *columns: str, **conf: Any) -> FoundInput:
    config = InputConfig.checked(**lake.conf, **conf)
    return find_input(config, settings={}, columns=columns)


def read(spark: SparkSession, lake: Lake, *columns: str, **conf: Any) -> Source:
    config = InputConfig.checked(**lake.conf, **conf)
    there = find_input(config, settings={}, columns=columns)
    return read_source(spark, config, there, columns=columns)


def rows(spark: SparkSession, lake: Lake, **conf: Any) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = read(spark, lake, **conf).df.orderBy("id").toArrow().to_pylist()
    return made


def test_types_and_values_are_those_that_spark_reads_of_the_files(
    spark: SparkSession, lake: Lake, tmp_path: Path
) -> None:
    kinds = every_type()
    table = kinds.select([name for name in kinds.column_names if name not in NOT_IN_ICEBERG])
    nested = pa.array([[{"a": 1, "b": ["x", None]}, None], [], None])
    entries = pa.array([[("a", 1)], [], None], pa.map_(pa.string(), pa.int64()))
    lake.table(table.append_column("nested", nested).append_column("map", entries))
    (file,) = (tmp_path / "warehouse").rglob("*.parquet")
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / file.name).write_bytes(file.read_bytes())
    here, there = source(spark, tmp_path / "files"), read(spark, lake)
    # In files Iceberg writes signs of names in its own way.
    assert there.df.schema == here.df.toDF(*there.df.columns).schema
    local, remote = rows_of(here, tmp_path / "files"), rows_of(there, file.parent)
    assert bits(remote) == bits(local)
    assert there.rows == 3


OLD = {"id": 1, "old": "a", "gone": "x", "st": {"a": 1, "b": "b"}, "l": [{"c": "q"}]}
NEW = {"new": "z", "id": 2**40, "st": {"b2": 2, "b": 7}, "l": [], "gone": 1.5}


def evolved(lake: Lake) -> None:
    """A table with a row from before its columns changed, and one from after."""
    text, whole = pa.string(), pa.int32()
    columns = pa.schema({"id": whole, "old": text, "gone": text})
    columns = columns.append(pa.field("st", pa.struct({"a": whole, "b": text})))
    columns = columns.append(pa.field("l", pa.list_(pa.struct({"c": text}))))
    table = lake.table(pa.Table.from_pylist([OLD], columns))
    with table.update_schema(allow_incompatible_changes=True) as change:
        change.rename_column("old", "new")
        change.delete_column("gone")
        change.update_column("id", field_type=LongType())
        change.rename_column(("st", "a"), "b2")
        change.delete_column(("st", "b"))
        change.rename_column(("l", "element", "c"), "d")
    with table.update_schema() as change:
        # What is called as a column that is gone is another one.
        change.add_column("gone", DoubleType())
        change.add_column(("st", "b"), LongType())
        change.move_first("new")
    table.append(pa.Table.from_pylist([NEW], table.schema().as_arrow()))


def test_columns_are_found_by_their_ids_whatever_became_of_their_names_and_types(
    spark: SparkSession, lake: Lake
) -> None:
    evolved(lake)
    old = {"new": "a", "id": 1, "st": {"b2": 1, "b": None}, "l": [{"d": "q"}], "gone": None}
    assert rows(spark, lake) == [old, NEW]
    assert read(spark, lake).df.columns == ["new", "id", "st", "l", "gone"]
    # The first file has a column of that name, without nulls, and it is not this one.
    with pytest.raises(DataError, match="column 'gone': 1 null among 2 rows"):
        read(spark, lake, "gone")


def test_a_partitioned_table_whose_partitions_changed_has_all_its_rows(
    spark: SparkSession, lake: Lake
) -> None:
    day = NestedField(3, "d", DateType(), required=False)
    key = NestedField(2, "k", StringType(), required=False)
    schema = Schema(NestedField(1, "id", LongType(), required=False), key, day)
    spec = PartitionSpec(PartitionField(2, 1000, IdentityTransform(), "k"))
    table = lake.catalog.create_table("ns.t", schema, partition_spec=spec)
    data = [
        {"id": 1, "k": "a/1", "d": dt.date(2026, 1, 31)},
        {"id": 2, "k": None, "d": None},
        {"id": 3, "k": "", "d": dt.date(1, 1, 1)},
    ]
    table.append(pa.Table.from_pylist(data, table.schema().as_arrow()))
    with table.update_spec() as change:
        change.remove_field("k")
        change.add_identity("d")
    more = [{"id": 4, "k": "z", "d": dt.date(2026, 2, 1)}]
    table.append(pa.Table.from_pylist(more, table.schema().as_arrow()))
    assert rows(spark, lake) == [*data, *more]


def test_deleted_rows_are_not_read_and_others_keep_their_places(
    spark: SparkSession, lake: Lake
) -> None:
    table = lake.table(pa.table({"id": [*range(20_000)]}))
    gone = [0, 9_999, 10_000, 19_999]
    delete_rows(table, gone[:2])
    delete_rows(table, gone[1:])
    there = read(spark, lake)
    left = np.setdiff1d(np.arange(20_000), gone).tolist()
    located = there.located().orderBy("id").toArrow()
    assert located["id"].to_pylist() == located["_kvspark_row"].to_pylist() == left
    assert there.rows == len(left)
    assert sorted(table.scan().to_arrow()["id"].to_pylist()) == left


def test_rows_that_are_deleted_by_their_values_are_refused(lake: Lake) -> None:
    table = lake.table(pa.table({"id": [1, 2]}))
    delete_rows(table, [0], content=DataFileContent.EQUALITY_DELETES)
    with pytest.raises(DataError, match=r"equality deletes.*nothing was written"):
        found(lake)


def test_a_snapshot_or_a_branch_names_what_is_read(spark: SparkSession, lake: Lake) -> None:
    table = lake.table(pa.table({"id": [1]}))
    first = table.current_snapshot()
    assert first is not None
    table.manage_snapshots().create_branch(first.snapshot_id, "audited").commit()
    table.manage_snapshots().create_tag(first.snapshot_id, "night").commit()
    with table.update_schema() as change:
        change.add_column("new", StringType())
    table.append(pa.table({"id": [2], "new": ["a"]}))
    assert rows(spark, lake) == [{"id": 1, "new": None}, {"id": 2, "new": "a"}]
    assert rows(spark, lake, snapshot=first.snapshot_id) == [{"id": 1}]
    assert rows(spark, lake, branch="audited") == [{"id": 1, "new": None}]
    assert rows(spark, lake, branch="night") == [{"id": 1, "new": None}]
    assert found(lake, branch="audited").version == f"snapshot {first.snapshot_id}"
    with pytest.raises(
        DataError, match=r"no branch or tag 'x' \(there are: audited, main, night\)"
    ):
        found(lake, branch="x")
    there = rf"there are: \d+ of 2\S+Z, {first.snapshot_id} of 2\S+Z\); nothing was written"
    with pytest.raises(DataError, match=rf"has no snapshot 7 \({there}"):
        found(lake, snapshot=7)


def test_what_others_commit_meanwhile_is_not_read(spark: SparkSession, lake: Lake) -> None:
    table = lake.table(pa.table({"id": [1]}))
    there = found(lake)
    df = there.read(spark)
    table.overwrite(pa.table({"id": [2]}))
    assert [row.id for row in df.collect()] == [1]
    there.check_unchanged()
    Path(there.files[0]).unlink()
    with pytest.raises(DataError, match=r"\.parquet changed while the run read it"):
        there.check_unchanged()


def test_a_table_without_rows_or_snapshots_has_its_columns(spark: SparkSession, lake: Lake) -> None:
    lake.catalog.create_table("ns.t", pa.schema([("id", pa.int64()), ("k", pa.string())]))
    there = read(spark, lake, "id")
    assert (there.rows, there.df.count(), there.df.columns) == (0, 0, ["id", "k"])
    assert found(lake).version == "no snapshot"


def test_files_without_ids_are_read_where_the_table_says_their_names(
    spark: SparkSession, lake: Lake, tmp_path: Path
) -> None:
    pq.write_table(pa.table({"k": ["a"], "id": [1]}), tmp_path / "old.parquet")
    table = lake.catalog.create_table("ns.t", pa.schema([("id", pa.int64()), ("k", pa.string())]))
    table.add_files([str(tmp_path / "old.parquet")])
    assert rows(spark, lake) == [{"id": 1, "k": "a"}]
    with table.update_schema() as change:
        change.rename_column("k", "key")
    with pytest.raises(DataError, match="has no ids of fields"):
        found(lake)


def test_mistakes_are_said_in_one_line(lake: Lake) -> None:
    with pytest.raises(DataError, match="the catalog has no such table"):
        found(lake)
    time = NestedField(1, "t", TimeType(), required=False)
    table = lake.catalog.create_table("ns.t", Schema(time))
    with pytest.raises(DataError, match="column 't' has type time, which is not read here"):
        found(lake)
    with table.update_schema(allow_incompatible_changes=True) as change:
        change.add_column("id", LongType())
        change.delete_column("t")
    with pytest.raises(
        SchemaError, match=r"no column 'x'; the table has id.*\(table: iceberg:lake/"
    ):
        found(lake, "x")
    config = {**lake.conf, "catalog": {**lake.properties, "uri": "sqlite:////nowhere/catalog.db"}}
    with pytest.raises(DataError, match="catalog or its storage does not do it") as told:
        find_input(InputConfig.checked(**config), settings={}, columns=[])
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({"paths": ["/a"]}, r"an Iceberg table has format: iceberg and a path"),
        ({"format": "parquet"}, r"an Iceberg table has format: iceberg and a path"),
        ({"version": 1}, r"input\.version is of delta, and input\.format is iceberg"),
        ({"partitions": {"k": "a"}}, r"input\.partitions is of .* and input\.format is iceberg"),
        ({"snapshot": 1, "branch": "b"}, r"name two snapshots"),
        ({"storage": {"secret_key": "x"}}, r"looks like a secret"),
    ],
)
def test_settings_that_do_not_fit_are_refused(conf: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        InputConfig.checked(**{"format": "iceberg", "paths": ["iceberg:lake/ns.t"], **conf})
