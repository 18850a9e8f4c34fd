"""Files that Spark does not open, or not to their end."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from kvspark.config.table.input_table import InputConfig
from kvspark.errors import DataError
from kvspark.spark.badrows.first_bad_row import place_in_file
from kvspark.spark.session.failure import explained
from kvspark.spark.sources.find_input import find_input
from kvspark.spark.sources.input.source import read_source
from tests.spark.sources.twins import source

pytestmark = pytest.mark.spark

ROWS = {"id": [1, 2, 3], "text": ["a", "b", "c"]}


def test_a_file_with_a_colon_in_its_name_is_read(spark: SparkSession, tmp_path: Path) -> None:
    """Spark lists it, and opens none."""
    for name, values in (("dt=1/10:30", ROWS), ("dt=2/10-30", {"id": [4], "text": ["d"]})):
        path = tmp_path / "t" / f"{name}.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(pa.table(values), path)
    there = source(spark, tmp_path / "t", columns=("text",))
    rows = there.df.orderBy("id").collect()
    assert [tuple(row) for row in rows] == [
        (1, "a", "1"),
        (2, "b", "1"),
        (3, "c", "1"),
        (4, "d", "2"),
    ]
    assert there.df.columns == ["id", "text", "dt"]
    places = there.located().orderBy("id").select("_kvspark_file", "_kvspark_row").collect()
    assert [place[1] for place in places] == [0, 1, 2, 0]
    assert place_in_file(*places[1]) == f"{tmp_path}/t/dt=1/10:30.parquet row 1"
    chosen = source(
        spark, tmp_path / "t", columns=("text",), partitions={"dt": "1"}, filter="id > 1"
    )
    assert [row.id for row in chosen.df.orderBy("id").collect()] == [2, 3]


def test_a_name_that_spark_does_not_open_is_refused(tmp_path: Path) -> None:
    (tmp_path / "10:30.csv").write_text("id\n1\n")
    config = InputConfig.checked(paths=[str(tmp_path)], format="csv", columns={"id": "int"})
    with pytest.raises(DataError, match=r"10:30\.csv has a colon in its name, and Spark opens no"):
        find_input(config, settings={}, columns=["id"])


@pytest.mark.parametrize("form", ["csv", "json"])
def test_a_compressed_file_that_is_cut_off_is_named(
    spark: SparkSession, tmp_path: Path, form: str
) -> None:
    text = {"csv": "id\n" + "1\n" * 999, "json": '{"id": 1}\n' * 999}[form]
    (tmp_path / f"whole.{form}").write_text(text)
    (tmp_path / f"cut off.{form}.gz").write_bytes(gzip.compress(text.encode())[:-9])
    config = InputConfig.checked(paths=[str(tmp_path)], format=form, columns={"id": "int"})
    found = find_input(config, settings={}, columns=["id"])
    with pytest.raises(Exception, match="FAILED_READ_FILE") as told:
        read_source(spark, config, found, columns=["id"])
    said = f"{tmp_path}/cut off.{form}.gz cannot be read to its end"
    assert str(explained(told.value)).startswith(said)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (
            {"compression": "brotli"},
            "is compressed with brotli, for which this session has no codec",
        ),
        (
            {"use_dictionary": False, "column_encoding": "BYTE_STREAM_SPLIT"},
            "is encoded as BYTE_STREAM_SPLIT, which Spark's vectorized reader does not know",
        ),
    ],
)
def test_a_sound_file_that_spark_does_not_read_is_not_called_damaged(
    spark: SparkSession, tmp_path: Path, written: dict[str, Any], said: str
) -> None:
    path = tmp_path / "1.parquet"
    pq.write_table(pa.table({"x": pa.array([0.5] * 9, pa.float32())}), path, **written)
    with pytest.raises(Exception, match="FAILED_READ_FILE") as told:
        spark.read.parquet(str(tmp_path)).collect()
    assert str(explained(told.value)).startswith(f"{path} {said}")
