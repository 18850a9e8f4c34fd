"""Reading: what is wrong with an input is said on the driver, and names the file."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from kvspark.config.table.input_table import InputConfig
from kvspark.errors import DataError, SchemaError, UsageError
from kvspark.spark.sources.find_input import find_input
from kvspark.spark.sources.input.found_input import FoundInput
from kvspark.spark.sources.input.source import Source, read_source
from kvspark.spark.tables.input_files import find_files
from kvspark.spark.tables.listing import list_files, resolve_paths
from tests.faults.matrix import covers

pytestmark = pytest.mark.spark

ROWS = {"id": [1, 2, 3], "text": ["a", "b", "c"]}


def write(path: Path, columns: Mapping[str, Any] = ROWS, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(dict(columns)), path, **options)
    return path


def found(*paths: Path, columns: tuple[str, ...] = ("text",), **conf: Any) -> FoundInput:
    config = InputConfig.checked(paths=[str(path) for path in paths], **conf)
    return find_input(config, settings={}, columns=columns)


def read(
    spark: SparkSession, *paths: Path, columns: tuple[str, ...] = ("text",), **conf: Any
) -> Source:
    config = InputConfig.checked(paths=[str(path) for path in paths], **conf)
    there = found(*paths, columns=columns, **conf)
    return read_source(spark, config, there, columns=columns)


def test_a_folder_of_files_is_one_table(spark: SparkSession, tmp_path: Path) -> None:
    write(tmp_path / "t" / "1.parquet")
    write(tmp_path / "t" / "2.parquet")
    source = read(spark, tmp_path / "t")
    assert source.rows == source.df.count() == 6
    assert source.df.columns == ["id", "text"]
    assert len(found(tmp_path / "t").files) == 2


def test_a_glob_names_files(spark: SparkSession, tmp_path: Path) -> None:
    write(tmp_path / "a1.parquet")
    write(tmp_path / "a2.parquet")
    write(tmp_path / "b.parquet")
    assert read(spark, tmp_path / "a*.parquet").rows == 6


def test_rows_that_two_paths_hold_are_not_read_twice(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    file = write(tmp_path / "t/part.parquet")
    (tmp_path / "link").symlink_to(tmp_path / "t")
    for second in (file, tmp_path / "link", tmp_path / "link/part.parquet"):
        for paths in ([tmp_path / "t", second], [second, tmp_path / "t"]):
            with pytest.raises(UsageError, match="its rows would be read twice"):
                resolve_paths([str(path) for path in paths])
    assert resolve_paths([str(tmp_path / "t"), f"{tmp_path}/t/"]) == [tmp_path / "t"]
    assert resolve_paths([f"{tmp_path}/t/*", str(file)]) == [Path(file)]


def test_a_filter_is_applied_and_counted(spark: SparkSession, tmp_path: Path) -> None:
    source = read(spark, write(tmp_path / "t.parquet"), filter="id >= 2")
    assert source.rows == source.df.count() == 2


@pytest.mark.parametrize("text", ["id >=", "nonsense = 1", "id"])
def test_a_wrong_filter_is_a_usage_error(spark: SparkSession, tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"input\.filter"):
        read(spark, write(tmp_path / "t.parquet"), filter=text)


def test_only_the_named_partition_is_read(spark: SparkSession, tmp_path: Path) -> None:
    write(tmp_path / "t" / "dt=007" / "1.parquet")
    write(tmp_path / "t" / "dt=008" / "2.parquet", {"id": [4], "text": ["d"]})
    source = read(spark, tmp_path / "t", partitions={"dt": "008"})
    assert source.rows == source.df.count() == 1
    assert [
        Path(file).parent.name for file in found(tmp_path / "t", partitions={"dt": "008"}).files
    ] == ["dt=008"]


@covers("B16")
def test_a_partition_value_stays_text(spark: SparkSession, tmp_path: Path) -> None:
    write(tmp_path / "t" / "dt=007" / "1.parquet")
    source = read(spark, tmp_path / "t")
    assert source.df.select("dt").distinct().first() == ("007",)


def test_a_partition_column_may_be_a_model_input(spark: SparkSession, tmp_path: Path) -> None:
    write(tmp_path / "t" / "lang=en" / "1.parquet")
    assert read(spark, tmp_path / "t", columns=("text", "lang")).rows == 3


def test_columns_come_from_the_partition_that_is_read(spark: SparkSession, tmp_path: Path) -> None:
    write(tmp_path / "t" / "dt=1" / "1.parquet", {"id": [1]})
    write(tmp_path / "t" / "dt=2" / "2.parquet")
    source = read(spark, tmp_path / "t", partitions={"dt": "2"})
    assert source.df.columns == ["id", "text", "dt"]
    assert source.df.count() == 3


def test_a_partition_without_files_is_an_empty_table(spark: SparkSession, tmp_path: Path) -> None:
    write(tmp_path / "t" / "dt=1" / "1.parquet")
    source = read(spark, tmp_path / "t", partitions={"dt": "2"})
    assert source.rows == source.df.count() == 0
    assert source.df.columns == ["id", "text", "dt"]


def test_a_partition_by_an_unknown_column_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    write(tmp_path / "t" / "dt=1" / "1.parquet")
    with pytest.raises(SchemaError, match="partitioned by: dt"):
        read(spark, tmp_path / "t", partitions={"day": "1"})


@covers("B4")
def test_a_missing_column_names_what_is_there_and_where(
    spark: SparkSession, tmp_path: Path
) -> None:
    path = write(tmp_path / "t.parquet")
    with pytest.raises(
        SchemaError, match=r"no column 'body'; the table has id, text; map .* \(files: .*t\.parquet"
    ):
        read(spark, path, columns=("body",))


@covers("B4")
def test_a_column_that_one_file_lacks_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    write(tmp_path / "t" / "1.parquet")
    write(tmp_path / "t" / "2.parquet", {"id": [1]})
    with pytest.raises(SchemaError, match=r"no column 'text'.*2\.parquet"):
        read(spark, tmp_path / "t")


@covers("B5")
def test_files_that_do_not_agree_are_refused(spark: SparkSession, tmp_path: Path) -> None:
    write(tmp_path / "t" / "1.parquet")
    write(tmp_path / "t" / "2.parquet", {"id": pa.array([1], pa.int32()), "text": ["a"]})
    with pytest.raises(SchemaError, match=r"agree on column 'id': INT64 in .*1\.parquet, INT32 in"):
        read(spark, tmp_path / "t")


def test_lists_and_structs_of_two_writers_agree(spark: SparkSession, tmp_path: Path) -> None:
    nested = {"text": ["a"], "l": [[1.5]], "s": [{"x": 1, "y": ["z"]}]}
    write(tmp_path / "t" / "1.parquet", nested, use_compliant_nested_type=False)
    frame = spark.createDataFrame(
        [("a", [1.5], (1, ["z"]))],
        "text string, l array<double>, s struct<x: long, y: array<string>>",
    )
    frame.write.mode("append").parquet(str(tmp_path / "t"))
    assert read(spark, tmp_path / "t").rows == 2


@covers("B1")
@pytest.mark.parametrize("damage", ["truncated", "text", "short"])
def test_a_damaged_file_is_named(spark: SparkSession, tmp_path: Path, damage: str) -> None:
    whole = write(tmp_path / "t" / "1.parquet").read_bytes()
    content = {"truncated": whole[:-20], "text": b"id,text\n1,a\n", "short": b"PA"}[damage]
    (tmp_path / "t" / "2.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"2\.parquet is not readable Parquet"):
        read(spark, tmp_path / "t")


@covers("B3")
def test_a_file_of_zero_bytes_is_skipped_and_counted(spark: SparkSession, tmp_path: Path) -> None:
    write(tmp_path / "t" / "2.parquet")
    (tmp_path / "t" / "1.parquet").touch()
    source = read(spark, tmp_path / "t")
    assert (source.rows, source.df.count(), found(tmp_path / "t").empty_files) == (3, 3, 1)


@covers("B3")
def test_strict_files_refuses_a_file_of_zero_bytes(spark: SparkSession, tmp_path: Path) -> None:
    write(tmp_path / "t" / "2.parquet")
    (tmp_path / "t" / "1.parquet").touch()
    with pytest.raises(DataError, match=r"1\.parquet: zero bytes"):
        read(spark, tmp_path / "t", strict_files=True)


def test_files_that_spark_would_not_read_are_refused(spark: SparkSession, tmp_path: Path) -> None:
    write(tmp_path / "t" / "1.parquet")
    write(tmp_path / "t" / "more" / "2.parquet")
    with pytest.raises(DataError, match=r"Spark does not read the files in .*more"):
        read(spark, tmp_path / "t")


def test_hidden_names_are_not_read(spark: SparkSession, tmp_path: Path) -> None:
    write(tmp_path / "t" / "1.parquet")
    for name in (".a.parquet", "_b.parquet", "_kvspark/run.json"):
        (tmp_path / "t" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "t" / name).write_text("{}")
    assert read(spark, tmp_path / "t").df.count() == 3


@pytest.mark.parametrize("path", ["absent", "absent*"])
def test_a_path_that_is_not_there_is_named(spark: SparkSession, tmp_path: Path, path: str) -> None:
    with pytest.raises(DataError, match=r"absent.* does not exist"):
        read(spark, tmp_path / path)


def test_an_empty_folder_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no Parquet file"):
        read(spark, tmp_path)


@covers("B6")
@pytest.mark.parametrize("statistics", [True, False])
@pytest.mark.parametrize("condition", [None, "id > 0"])
def test_nulls_are_counted_before_anything_is_computed(
    spark: SparkSession, tmp_path: Path, *, statistics: bool, condition: str | None
) -> None:
    rows = {"id": [1, 2, 3], "text": ["a", None, None]}
    path = write(tmp_path / "t.parquet", rows, write_statistics=statistics)
    with pytest.raises(DataError, match="'text': 2 nulls among 3 rows"):
        read(spark, path, filter=condition)


def test_a_filter_may_leave_the_nulls_out(spark: SparkSession, tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", {"id": [1, 2], "text": ["a", None]})
    assert read(spark, path, filter="text is not null").rows == 1


def test_zero_rows_are_a_table(spark: SparkSession, tmp_path: Path) -> None:
    path = write(
        tmp_path / "t.parquet", {"id": pa.array([], pa.int64()), "text": pa.array([], pa.string())}
    )
    assert read(spark, path).rows == 0


@covers("B10")
def test_fail_on_empty_refuses_zero_rows(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"0 rows \(filter id > 9\)"):
        read(spark, write(tmp_path / "t.parquet"), filter="id > 9", fail_on_empty=True)


def test_a_file_that_changes_during_the_run_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet")
    source = found(path)
    source.check_unchanged()
    write(path, {"id": [1], "text": ["other"]})
    with pytest.raises(DataError, match=r"t\.parquet changed"):
        source.check_unchanged()


@covers("B2")
def test_a_bad_page_is_an_error_and_no_wrong_number(spark: SparkSession, tmp_path: Path) -> None:
    rows = {"id": list(range(4096)), "text": ["a"] * 4096}
    path = write(
        tmp_path / "t.parquet",
        rows,
        compression="none",
        use_dictionary=False,
        write_page_checksum=True,
    )
    content = bytearray(path.read_bytes())
    content[4096] ^= 0xFF
    path.write_bytes(bytes(content))
    with pytest.raises(Exception, match="checksum"):
        read(spark, path).df.selectExpr("sum(id)").collect()


def test_a_filter_that_spark_calls_not_deterministic_is_refused(
    spark: SparkSession, tmp_path: Path
) -> None:
    write(tmp_path / "t.parquet")
    spark.udf.register("drawn", F.udf(lambda: True, "boolean").asNondeterministic())
    with pytest.raises(UsageError, match="not deterministic, as Spark says"):
        read(spark, tmp_path / "t.parquet", filter="drawn()")


@pytest.mark.parametrize(
    "text", ["d < 'today'", "d between 'yesterday' and 'tomorrow'", "date('now') > d"]
)
def test_a_text_of_which_spark_makes_the_day_of_the_run_is_refused(
    spark: SparkSession, tmp_path: Path, text: str
) -> None:
    write(tmp_path / "t.parquet", {**ROWS, "d": [date(2026, 1, 1)] * 3})
    with pytest.raises(UsageError, match="is of the day; write the date into the conf"):
        read(spark, tmp_path / "t.parquet", filter=text)
    assert (
        read(spark, tmp_path / "t.parquet", filter="text <> 'today' and d > '2025-01-01'").rows == 3
    )
    assert (
        read(spark, tmp_path / "t.parquet", filter="input_file_name() like '%t.parquet'").rows == 3
    )


@pytest.mark.parametrize("second", ["p=2", "P=2"])
def test_folders_that_name_a_column_twice_are_told(tmp_path: Path, second: str) -> None:
    write(tmp_path / "t/p=1" / second / "a.parquet")
    with pytest.raises(DataError, match=r"the folders p=1/.=2 name column 'p' twice"):
        list_files([tmp_path / "t"])


def test_a_link_to_a_folder_around_it_has_no_end_and_is_told(tmp_path: Path) -> None:
    write(tmp_path / "t/p=1/a.parquet")
    (tmp_path / "t/p=2").symlink_to(tmp_path / "t")
    with pytest.raises(DataError, match="in which it lies: it has no end"):
        list_files([tmp_path / "t"])


def test_links_that_lead_to_each_other_are_told(tmp_path: Path) -> None:
    write(tmp_path / "a/q=1/a.parquet")
    write(tmp_path / "b/p=1/a.parquet")
    (tmp_path / "a/q=2").symlink_to(tmp_path / "b")
    (tmp_path / "b/p=2").symlink_to(tmp_path / "a")
    with pytest.raises(DataError, match="in which it lies: it has no end"):
        list_files([tmp_path / "a"])


def test_two_partitioned_folders_are_told_before_spark_reads_them(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path / name / "p=1/a.parquet")
    with pytest.raises(DataError, match="are both partitioned, and Spark reads one such table"):
        list_files([tmp_path / "a", tmp_path / "b"])
    assert len(list_files([tmp_path / "a/p=1", tmp_path / "b/p=1"])) == 2


def test_a_file_that_has_the_column_in_other_case_says_so(tmp_path: Path) -> None:
    write(tmp_path / "t/1.parquet")
    write(tmp_path / "t/2.parquet", {"id": [1], "Text": ["a"]})
    config = InputConfig.checked(paths=[str(tmp_path / "t")])
    with pytest.raises(SchemaError, match=r"no column 'text'; did you mean 'Text'.*2\.parquet"):
        find_files(config, columns=["text"])
