"""Files that do not agree: refused with what to do, or read as one; and those that Spark does not read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from pyspark.sql.types import StructType

from kvspark.config.table.input_table import InputConfig
from kvspark.errors import DataError, SchemaError
from kvspark.spark.sources.find_input import find_input
from kvspark.spark.sources.input.source import Source, read_source
from kvspark.spark.tables.input_files import find_files
from kvspark.spark.tables.merged_schema import merged

pytestmark = pytest.mark.spark

EARLY = {"id": pa.array([1, 2], pa.int64()), "n": pa.array([7, -7], pa.int32())}
LATE = {"id": pa.array([3], pa.int64()), "n": pa.array([2**40], pa.int64()), "k": pa.array(["x"])}


def folder(path: Path, *tables: dict[str, Any]) -> Path:
    path.mkdir()
    for number, columns in enumerate(tables):
        pq.write_table(pa.table(columns), path / f"{number}.parquet")
    return path


def read(spark: SparkSession, path: Path, *columns: str, **conf: Any) -> Source:
    config = InputConfig.checked(paths=[str(path)], **conf)
    found = find_input(config, settings={}, columns=columns)
    return read_source(spark, config, found, columns=columns)


def test_files_that_do_not_agree_are_refused_with_what_to_do(tmp_path: Path) -> None:
    config = InputConfig.checked(paths=[str(folder(tmp_path / "t", EARLY, LATE))])
    with pytest.raises(
        SchemaError, match=r"do not agree on column '[nk]'.*input\.merge_schema: true"
    ):
        find_files(config, columns=["id"])


def test_their_union_is_read_in_the_wider_type(spark: SparkSession, tmp_path: Path) -> None:
    source = read(spark, folder(tmp_path / "t", EARLY, LATE), "n", merge_schema=True)
    assert source.df.schema.simpleString() == "struct<id:bigint,n:bigint,k:string>"
    rows = [tuple(row) for row in source.df.orderBy("id").collect()]
    assert rows == [(1, 7, None), (2, -7, None), (3, 2**40, "x")]
    assert source.rows == 3


@pytest.mark.parametrize(
    ("early", "late", "kind"),
    [
        (pa.array([1.5], pa.float32()), pa.array([0.1], pa.float64()), "double"),
        (pa.array([7], pa.int8()), pa.array([2**31 - 1], pa.int32()), "int"),
        (pa.array([2**31 - 1], pa.int32()), pa.array([0.1], pa.float64()), "double"),
        (pa.array([1], pa.decimal128(4, 1)), pa.array([2], pa.decimal128(20, 3)), "decimal(20,3)"),
        (
            pa.array([{"a": 1}], pa.struct([("a", pa.int32())])),
            pa.array([{"b": "x", "a": 2**40}], pa.struct([("b", pa.string()), ("a", pa.int64())])),
            "struct<a:bigint,b:string>",
        ),
        (
            pa.array([[1]], pa.list_(pa.int32())),
            pa.array([[2**40]], pa.list_(pa.int64())),
            "array<bigint>",
        ),
    ],
    ids=["float", "tinyint", "int", "decimal", "struct", "array"],
)
def test_no_value_changes_when_types_widen(
    spark: SparkSession, tmp_path: Path, early: pa.Array, late: pa.Array, kind: str
) -> None:
    path = folder(tmp_path / "t", {"id": [0], "v": early}, {"id": [1], "v": late})
    source = read(spark, path, "id", merge_schema=True)
    assert source.df.schema["v"].dataType.simpleString() == kind
    made = [row.v for row in source.df.orderBy("id").collect()]
    expected = [*early.to_pylist(), *late.to_pylist()]
    plain = [each.asDict() if hasattr(each, "asDict") else each for each in made]
    wanted = [
        {"a": None, "b": None, **each} if isinstance(each, dict) else each for each in expected
    ]
    assert plain == wanted


@pytest.mark.parametrize(("early", "late"), [("x", 1), (2**40, 0.5), (1.5, True)])
def test_types_of_which_neither_holds_the_other_are_refused(
    spark: SparkSession, tmp_path: Path, early: object, late: object
) -> None:
    path = folder(tmp_path / "t", {"id": [0], "v": [early]}, {"id": [1], "v": [late]})
    with pytest.raises(
        SchemaError, match=r"do not agree on column 'v': .*neither type holds the other"
    ):
        read(spark, path, "id", merge_schema=True)


def test_a_column_of_the_model_that_a_file_lacks_has_nulls_there(
    spark: SparkSession, tmp_path: Path
) -> None:
    path = folder(tmp_path / "t", EARLY, LATE)
    with pytest.raises(DataError, match="column 'k': 2 nulls among 3 rows"):
        read(spark, path, "k", merge_schema=True)
    assert read(spark, path, "k", merge_schema=True, on_bad_row="null").rows == 3
    with pytest.raises(SchemaError, match="no column 'nope'"):
        read(spark, path, "nope", merge_schema=True)


def columns_of(text: str) -> StructType:
    schema = StructType.fromDDL(text)
    assert isinstance(schema, StructType)
    return schema


def test_merging_does_not_depend_on_the_order_of_files() -> None:
    kinds = ["a tinyint", "a int, b float", "b double, c string", "a bigint"]
    schemas = [(text, columns_of(text)) for text in kinds]
    wanted = "a bigint, b double, c string"
    for turned in (schemas, schemas[::-1], schemas[2:] + schemas[:2]):
        made = {field.name: field.dataType for field in merged(turned)}
        assert made == {field.name: field.dataType for field in columns_of(wanted)}


def test_a_pandas_time_stamp_names_file_and_column_before_there_is_a_session(
    spark: SparkSession, tmp_path: Path
) -> None:
    frame = pd.DataFrame({"id": np.arange(2), "at": pd.to_datetime(["2026-01-01", "2026-01-02"])})
    path = tmp_path / "a.parquet"
    frame.to_parquet(path)
    config = InputConfig.checked(paths=[str(path)])
    with pytest.raises(
        SchemaError, match=r"a\.parquet: column 'at' is a time stamp of nanoseconds.*nanosAsLong"
    ):
        find_files(config, columns=["id"])
    assert find_files(config, columns=["id"], nanos_as_long=True).selected
    frame.to_parquet(path, coerce_timestamps="us")
    assert read(spark, path, "id").rows == 2


def test_another_type_that_spark_does_not_read_names_the_file(
    spark: SparkSession, tmp_path: Path
) -> None:
    path = folder(tmp_path / "t", {"id": [0], "at": pa.array([1], pa.time32("ms"))})
    try:
        source = read(spark, path, "id")
    except SchemaError as exc:
        assert str(path / "0.parquet") in str(exc)  # noqa: PT017 - later versions of Spark read it
    else:
        assert source.df.columns == ["id", "at"]
