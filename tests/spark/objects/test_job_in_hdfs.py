"""A whole job whose output is in HDFS: the rows of a local folder, for every reader; kills and refusals."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

import kvspark
from kvspark.cli.app import run as command
from kvspark.errors import OutputError, RunLockedError, UsageError
from kvspark.infer.model import Model
from kvspark.spark.jobs.job import run_score
from kvspark.spark.jobs.rollback import run_rollback, versions_of
from kvspark.spark.publishing.open_publisher import publisher_of
from tests.hdfs_server import HdfsServer
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


def test_a_run_in_folders_with_a_quarantine_is_reported_and_goes_back(
    spark: SparkSession, folder: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    night = write_night(folder / "night")
    bad = pa.table({"id": [1000], "x": pa.array([None], pa.list_(pa.float32()))})
    pq.write_table(bad, night / "bad.parquet")
    for path in night.iterdir():
        table = pq.read_table(path)
        kinds = pa.array([f"{'é/:%' if i % 2 else 'a'}" for i in table["id"].to_pylist()])
        pq.write_table(table.append_column("kind", kinds), path)
    output = {"path": url, "partition_by": "kind"}
    asked = {"on_bad_row": "quarantine", "id": "id"}
    first = job(folder, night, run={"id": "first"}, input=asked, output=output)
    report = run_score(first, spark=spark)
    assert (report.rows_out, report.rows_quarantined) == (200, 1)
    rows = kvspark.read(url).to_table(columns=["id", "kind"]).to_pylist()
    assert all(row["kind"] == ("é/:%" if row["id"] % 2 else "a") for row in rows)
    by_spark = spark.read.parquet(published_to(url)).select("id", "kind").collect()
    assert {(row.id, row.kind) for row in by_spark} == {(row["id"], row["kind"]) for row in rows}
    assert kvspark.read(url, quarantine=True).to_table()["id"].to_pylist() == [1000]
    none = {**asked, "filter": "id < 0"}
    run_score(job(folder, night, run={"id": "none"}, input=none, output=output), spark=spark)
    assert kvspark.read(url).to_table().num_rows == 0
    assert kvspark.published_folder(url) == published_to(url)
    assert "none: 0 rows" in versions_of(first)[0]
    assert run_rollback(first) == f"{url} is the output of first again, and that of none is kept"
    assert kvspark.read(url).to_table().num_rows == 200
    capsys.readouterr()
    assert command(["report", url, "--json"]) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert [run["run_id"] for run in told["history"]] == ["first"]


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


def test_a_second_run_is_refused_with_its_own_exit_code(
    spark: SparkSession, folder: Path, url: str
) -> None:
    config = job(folder, write_night(folder / "night"), output={"path": url})
    publisher = publisher_of(config)
    assert publisher is not None
    with publisher.lock("other"), pytest.raises(RunLockedError, match="run other holds it") as told:
        run_score(config, spark=spark)
    assert told.value.exit_code == 75


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ({"mode": "append"}, r"output.mode is append, and the output is in HDFS"),
        ({"writer": "spark"}, "output.writer is spark"),
        ({"path": "hdfs://namenode:8020"}, "names no folder of HDFS; write hdfs://NAMENODE:PORT/"),
        ({"path": "hdfs:///scores"}, "names no folder of HDFS"),
        ({"format": "delta"}, "where the client of Delta tables does not write"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_computed(
    folder: Path, url: str, output: dict[str, str], message: str
) -> None:
    config = job(folder, write_night(folder / "night"), output={"path": url, **output})
    with pytest.raises(UsageError, match=message):
        run_score(config)
