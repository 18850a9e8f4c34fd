"""A whole job whose output is in HDFS: every reader, and a quota. What S3 promises too: `test_job_in_stores`."""

from __future__ import annotations

import secrets
from pathlib import Path

import duckdb
import pandas as pd
import pytest
from pyspark.sql import SparkSession

import kvspark
from kvspark.errors import OutputError, UsageError
from kvspark.infer.model import Model
from kvspark.spark.jobs.job import run_score
from tests.hdfs_server import HdfsServer
from tests.spark.objects.test_job_in_stores import with_kinds
from tests.spark.small_jobs import job, published, write_night
from tests.table.publish.hdfs_tables import client_of, hdfs_pointer

pytestmark = pytest.mark.spark


@pytest.fixture
def folder(tmp_path: Path, mlp: Model) -> Path:
    mlp.save(tmp_path / "model")
    return tmp_path


@pytest.fixture
def url(hdfs: HdfsServer) -> str:
    return f"{hdfs.url}/{secrets.token_hex(4)}/scores"


def published_to(url: str) -> str:
    """The folder that the pointer names, read by the client alone."""
    pointer = hdfs_pointer(url)
    assert pointer is not None
    place: str = pointer["current"]["url"]
    return place


def fetched(url: str, to: Path) -> Path:
    """The files of a folder of HDFS, on this disk."""
    client, folder = client_of(url)
    for each in client.list_status(folder, recursive=True):
        path = to / each.path.removeprefix(f"{folder}/")
        if not each.isdir:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(client.read(each.path).read())
    return to


def test_three_nights_have_the_rows_of_a_local_folder_bit_for_bit_for_every_reader(
    spark: SparkSession, folder: Path, url: str
) -> None:
    for number in range(3):
        night = write_night(folder / f"night{number}", seed=number)
        run_score(job(folder, night, output={"writer": "arrow"}), spark=spark)
        report = run_score(job(folder, night, output={"path": url}), spark=spark)
        assert (report.output, report.writer, report.rows_out) == (url, "arrow", 200)
        local = published(folder / "out")
        found = kvspark.read(url).to_table().sort_by("id")
        assert found.schema.equals(local.schema, check_metadata=True)
        assert found.equals(local)
    place = published_to(url)
    columns = spark.read.parquet(str(folder / "out")).columns
    by_spark = [spark.read.parquet(each).orderBy("id") for each in (place, str(folder / "out"))]
    assert by_spark[0].schema == by_spark[1].schema
    assert by_spark[0].collect() == by_spark[1].collect()
    copy = fetched(place, folder / "copy")
    assert published(copy).equals(local)
    files = sorted(map(str, copy.glob("*.parquet")))
    by_pandas = pd.concat(map(pd.read_parquet, files)).sort_values("id").reset_index(drop=True)
    pd.testing.assert_frame_equal(by_pandas[columns], local.to_pandas()[columns])
    by_duckdb = duckdb.execute(f"FROM read_parquet({files}) ORDER BY id").fetchall()
    assert by_duckdb == duckdb.execute("FROM local ORDER BY id").fetchall()


def test_spark_reads_the_folders_of_partitions(spark: SparkSession, folder: Path, url: str) -> None:
    night = with_kinds(write_night(folder / "night"))
    run_score(job(folder, night, output={"path": url, "partition_by": "kind"}), spark=spark)
    assert kvspark.published_folder(url) == published_to(url)
    rows = kvspark.read(url).to_table(columns=["id", "kind"]).to_pylist()
    by_spark = spark.read.parquet(published_to(url)).select("id", "kind").collect()
    assert {(row.id, row.kind) for row in by_spark} == {(row["id"], row["kind"]) for row in rows}
    assert len(by_spark) == len(rows) == 200


def test_a_quota_that_is_used_up_is_one_line_of_a_worker_and_the_old_rows_stay(
    spark: SparkSession, folder: Path, url: str, hdfs: HdfsServer
) -> None:
    night = write_night(folder / "night")
    config = job(folder, night, output={"path": url})
    run_score(config, spark=spark)
    # Not room for a block: the workers are the first that write a byte there.
    path = f"{client_of(url)[1]}/_runs"
    hdfs.admin("-setSpaceQuota", "1m", path)
    try:
        with pytest.raises(OutputError, match="quota of space is used up") as told:
            run_score(config, spark=spark)
        assert "rows cannot be written" in str(told.value)
        assert "\n" not in str(told.value)
    finally:
        hdfs.admin("-clrSpaceQuota", path)
    assert kvspark.read(url).to_table().num_rows == 200
    assert run_score(config, spark=spark).rows_out == 200


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ({"path": "hdfs://namenode:8020"}, "names no folder of HDFS; write hdfs://NAMENODE:PORT/"),
        ({"path": "hdfs:///scores"}, "names no folder of HDFS"),
        ({"format": "delta"}, "where the client of Delta tables does not write"),
    ],
)
def test_what_hdfs_cannot_be_is_said_before_anything_is_computed(
    folder: Path, url: str, output: dict[str, str], message: str
) -> None:
    config = job(folder, write_night(folder / "night"), output={"path": url, **output})
    with pytest.raises(UsageError, match=message):
        run_score(config)
