"""A whole job whose input is an Iceberg table publishes the rows of the same Parquet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

import kvspark
from kvspark.config.table.input_table import InputConfig
from kvspark.infer.model import Model
from kvspark.spark.jobs.job import run_score
from kvspark.spark.sources.find_input import find_input
from kvspark.spark.sources.input.source import read_source
from kvspark.table.iceberg.catalog_table import CatalogTable
from kvspark.table.iceberg.target import IcebergTarget
from tests.object_server import LAKE, S3Address
from tests.spark.conftest import features
from tests.spark.small_jobs import job, published, write_night
from tests.spark.sources.iceberg_tables import Lake, delete_rows
from tests.spark.sources.twins import workers_reach

pytestmark = pytest.mark.spark


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path)


@pytest.fixture
def folder(tmp_path: Path, mlp: Model) -> Path:
    mlp.save(tmp_path / "model")
    return tmp_path


def night() -> pa.Table:
    return pa.table({"id": np.arange(200), "x": list(features(200, seed=3))})


def test_a_job_publishes_the_rows_of_the_same_parquet(
    spark: SparkSession, folder: Path, lake: Lake
) -> None:
    local = write_night(folder / "night")
    run_score(job(folder, local), spark=spark)
    expected = published(folder / "out")
    table = lake.table(night().slice(0, 150))
    table.append(night().slice(150))
    report = run_score(job(folder, local, input=lake.conf), spark=spark)
    assert published(folder / "out").equals(expected)
    snapshot = table.refresh().current_snapshot()
    assert snapshot is not None
    assert (report.rows_in, report.input_version) == (200, f"snapshot {snapshot.snapshot_id}")


def test_a_bad_row_is_named_by_its_place_in_the_file(
    spark: SparkSession, folder: Path, lake: Lake
) -> None:
    x = pa.array([None if n == 150 else [1.0] * 8 for n in range(200)], pa.list_(pa.float32()))
    delete_rows(lake.table(pa.table({"id": np.arange(200), "x": x})), [3])
    conf = {**lake.conf, "on_bad_row": "quarantine"}
    report = run_score(job(folder, folder, input=conf), spark=spark)
    assert (report.rows_in, report.rows_out, report.rows_quarantined) == (199, 198, 1)
    (row,) = kvspark.read(folder / "out", quarantine=True).to_table().to_pylist()
    assert row["row"] == 150


def test_what_kvspark_publishes_is_read_also_of_a_rest_catalog_on_s3(
    spark: SparkSession, folder: Path, s3: S3Address
) -> None:
    s3.make_lake()
    url = f"iceberg:{LAKE}/scores.nights"
    with workers_reach(s3, spark):
        output = {"format": "iceberg", "path": url}
        run_score(job(folder, write_night(folder / "night"), output=output), spark=spark)
        config = InputConfig.checked(format="iceberg", paths=[url])
        there = read_source(
            spark, config, find_input(config, settings={}, columns=["x"]), columns=["x"]
        )
        table = CatalogTable(IcebergTarget(url)).load()
        assert table is not None
        expected = table.scan().to_arrow()
        made = there.df.orderBy("id").toArrow()
    assert there.rows == 200
    assert made["scores"].to_pylist() == expected.sort_by("id")["scores"].to_pylist()


def test_partition_columns_that_files_have_not_come_from_the_spec_of_each_file(
    spark: SparkSession, folder: Path, lake: Lake
) -> None:
    (folder / "night").mkdir()
    rows = night().append_column("k", pa.array(["a/1 %", None, "b", "é"] * 50))
    pq.write_table(rows, folder / "night" / "1.parquet")
    output = {
        "format": "iceberg",
        "path": "iceberg:lake/ns.t",
        "catalog": lake.properties,
        "partition_by": "k",
    }
    run_score(job(folder, folder / "night", output=output), spark=spark)
    table = lake.catalog.load_table("ns.t")
    with table.update_spec() as change:
        change.remove_field("k")
        change.add_identity("id")
    there = find_input(InputConfig.checked(**lake.conf), settings={}, columns=["k"])
    assert "k" not in pq.read_schema(there.files[0]).names
    found = {row.id: row.k for row in there.read(spark).select("id", "k").collect()}
    assert found == dict(zip(rows["id"].to_pylist(), rows["k"].to_pylist(), strict=True))
