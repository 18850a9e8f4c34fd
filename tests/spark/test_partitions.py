"""Partitions: the values that folder names stand for, and those that a conf chooses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from kvspark.config.table.input_table import InputConfig
from kvspark.errors import DataError
from kvspark.infer.model import Model
from kvspark.spark.jobs.job import run_score
from kvspark.spark.sources.find_input import find_input
from kvspark.spark.sources.input.source import read_source
from kvspark.spark.tables.folder_names import HIVE_NULL
from kvspark.spark.tables.input_files import find_files
from kvspark.spark.tables.listing import list_files
from tests.spark.conftest import features
from tests.spark.small_jobs import job, published, write_night

VALUES = [None, "a b/c=%", "007", "10:30", "é%C3%A9", "x[1]{2}*?", "50%41", '"q"', "\t", "=", "."]


@pytest.fixture
def table(spark: SparkSession, tmp_path: Path) -> Path:
    """Rows of `id` and `text`, partitioned by Spark by each of VALUES, and by empty text."""
    rows = [(i, value) for i, value in enumerate([*VALUES, ""])]
    frame = spark.createDataFrame(rows, "id long, p string").withColumn("text", F.lit("a"))
    frame.coalesce(1).write.partitionBy("p").parquet(str(tmp_path / "t"))
    return tmp_path / "t"


def chosen(spark: SparkSession, path: Path, **partitions: str | None) -> set[int]:
    config = InputConfig.checked(paths=[str(path)], partitions=partitions)
    found = find_input(config, settings={}, columns=["text"])
    source = read_source(spark, config, found, columns=["text"])
    ids = {row.id for row in source.df.select("id").collect()}
    assert source.rows == len(ids)
    return ids


@pytest.mark.spark
def test_each_partition_is_chosen_by_its_value(spark: SparkSession, table: Path) -> None:
    nulls = {VALUES.index(None), len(VALUES)}  # Spark writes empty text as null
    for value in (None, HIVE_NULL, ""):
        assert chosen(spark, table, p=value) == nulls
    for place, value in enumerate(VALUES):
        if value is not None:
            assert chosen(spark, table, p=value) == {place}, value
    assert chosen(spark, table, p="A B/C=%") == set()


@pytest.mark.spark
def test_values_are_read_as_spark_reads_them(spark: SparkSession, table: Path) -> None:
    read = {row.p for row in spark.read.parquet(str(table)).select("p").collect()}
    assert {file.partition[0][1] for file in list_files([table])} == read


@pytest.mark.spark
def test_the_rows_of_the_null_partition_are_scored(
    spark: SparkSession, tmp_path: Path, mlp: Model
) -> None:
    mlp.save(tmp_path / "model")
    write_night(tmp_path / "night", 20)
    split = F.expr("if(id % 2 = 0, null, 'a b/c=%')")
    night = spark.read.parquet(str(tmp_path / "night")).withColumn("p", split)
    night.write.partitionBy("p").parquet(str(tmp_path / "parts"))
    expected = mlp.predict({"x": features(20)}, threads=1)["scores"]
    for value, first in ((None, 0), ("a b/c=%", 1), (HIVE_NULL, 0)):
        config = job(tmp_path, tmp_path / "parts", input={"partitions": {"p": value}})
        assert run_score(config, spark=spark).rows_out == 10
        rows = published(tmp_path / "out")
        assert rows["id"].to_pylist() == list(range(first, 20, 2))
        assert set(rows["p"].to_pylist()) == {None if value == HIVE_NULL else value}
        scores = np.stack(rows["scores"].to_pylist()).astype("float32")
        assert scores.tobytes() == expected[first::2].tobytes()


def write(path: Path) -> None:
    path.parent.mkdir(parents=True)
    pq.write_table(pa.table({"id": [1], "text": ["a"]}), path)


def test_a_null_partition_of_an_input_of_the_model_is_a_null(tmp_path: Path) -> None:
    write(tmp_path / "t" / f"lang={HIVE_NULL}" / "0.parquet")
    config = InputConfig.checked(paths=[str(tmp_path / "t")])
    with pytest.raises(DataError, match=r"column 'lang': 1 null among 1 row in .*0\.parquet"):
        find_files(config, columns=["text", "lang"])
    find_files(config, columns=["text"])


@pytest.mark.parametrize("folder", ["p=", "=x"])
def test_a_folder_that_spark_cannot_read_is_named(tmp_path: Path, folder: str) -> None:
    write(tmp_path / "t" / folder / "0.parquet")
    with pytest.raises(DataError, match=f"Spark cannot read the folder {folder}"):
        list_files([tmp_path / "t"])


def test_files_of_other_partition_columns_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "t" / "p=1" / "0.parquet")
    write(tmp_path / "t" / "q=1" / "0.parquet")
    with pytest.raises(DataError, match="not partitioned by the same columns"):
        list_files([tmp_path / "t"])
