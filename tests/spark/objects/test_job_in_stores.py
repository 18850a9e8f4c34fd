"""A whole job whose output is in an object store or in HDFS: what both promise alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

import kvspark
from kvspark.cli.app import run as command
from kvspark.errors import OutputError, RunLockedError, UsageError
from kvspark.spark.jobs.job import run_score
from kvspark.spark.jobs.rollback import run_rollback, versions_of
from kvspark.spark.publishing.open_publisher import publisher_of
from tests.spark.small_jobs import job, published, write_night

pytestmark = pytest.mark.spark


def told_of(url: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What `kvspark report` says."""
    capsys.readouterr()
    assert command(["report", url, "--json"]) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


def with_kinds(night: Path) -> Path:
    """`night` with a column of texts that are hard to name folders of."""
    for path in night.iterdir():
        table = pq.read_table(path)
        kinds = pa.array([f"{'é/:%' if i % 2 else 'a'}" for i in table["id"].to_pylist()])
        pq.write_table(table.append_column("kind", kinds), path)
    return night


def test_kvspark_read_finds_what_is_published(spark: SparkSession, folder: Path, url: str) -> None:
    night = write_night(folder / "night")
    report = run_score(job(folder, night, output={"path": url}), spark=spark)
    assert (report.output, report.writer, report.rows_out) == (url, "arrow", 200)
    run_score(job(folder, night, output={"writer": "arrow"}), spark=spark)
    for place in (url, folder / "out"):
        assert kvspark.read(place).to_table().sort_by("id").equals(published(folder / "out"))


def test_partitions_are_folders_and_a_night_without_rows_is_a_table(
    spark: SparkSession, folder: Path, url: str
) -> None:
    night = with_kinds(write_night(folder / "night"))
    run_score(job(folder, night, output={"path": url, "partition_by": "kind"}), spark=spark)
    found = kvspark.read(url).to_table(columns=["id", "kind"]).to_pylist()
    assert len(found) == 200
    assert all(row["kind"] == ("é/:%" if row["id"] % 2 else "a") for row in found)
    run_score(job(folder, night, input={"filter": "id < 0"}, output={"path": url}), spark=spark)
    table = kvspark.read(url).to_table()
    assert (table.num_rows, table.column_names) == (0, ["id", "x", "kind", "scores", "label"])


def test_the_report_the_history_and_the_versions_are_there(
    spark: SparkSession, folder: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    night = write_night(folder / "night")
    for run_id in ("first", "second"):
        config = job(folder, night, run={"id": run_id}, output={"path": url})
        run_score(config, spark=spark)
    assert [run["run_id"] for run in told_of(url, capsys)["history"]] == ["first", "second"]
    now, before = versions_of(config)
    assert now.startswith("now  second: 200 rows")
    assert before.strip().startswith("first: 200 rows")
    assert run_rollback(config) == f"{url} is the output of first again, and that of second is kept"
    assert told_of(url, capsys)["run"]["run_id"] == "first"


def test_a_quarantine_lies_beside_the_rows(spark: SparkSession, folder: Path, url: str) -> None:
    night = write_night(folder / "night")
    table = pa.table({"id": [1000, 1001], "x": pa.array([None, [1.0] * 8], pa.list_(pa.float32()))})
    pq.write_table(table, night / "bad.parquet")
    asked = {"on_bad_row": "quarantine", "id": "id"}
    report = run_score(job(folder, night, input=asked, output={"path": url}), spark=spark)
    assert (report.rows_out, report.rows_quarantined) == (201, 1)
    assert kvspark.read(url).to_table().num_rows == 201
    assert kvspark.read(url, quarantine=True).to_table()["id"].to_pylist() == [1000]


def test_a_second_run_is_refused_with_its_own_exit_code(folder: Path, url: str) -> None:
    config = job(folder, write_night(folder / "night"), output={"path": url})
    publisher = publisher_of(config)
    assert publisher is not None
    with publisher.lock("other"), pytest.raises(RunLockedError, match="run other holds it") as told:
        run_score(config)
    assert told.value.exit_code == 75


def test_what_cannot_be_is_said_before_anything_is_computed(folder: Path, url: str) -> None:
    output = {"path": url, "writer": "spark"}
    config = job(folder, write_night(folder / "night"), output=output)
    with pytest.raises(UsageError, match=r"output\.writer is spark"):
        run_score(config)


def test_a_table_that_only_spark_can_write_is_refused(
    spark: SparkSession, folder: Path, url: str
) -> None:
    night = write_night(folder / "night")
    for path in night.iterdir():
        table = pq.read_table(path)
        pq.write_table(table.append_column("part", table["id"].cast(pa.float64())), path)
    config = job(folder, night, output={"path": url, "partition_by": "part"})
    with pytest.raises(OutputError, match=r"they cannot write this table: .*'part' of type double"):
        run_score(config, spark=spark)
    with pytest.raises(OutputError, match="has no output"):
        kvspark.read(url)
