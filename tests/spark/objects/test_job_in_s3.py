"""A whole job whose output is in an object store: the rows of POSIX, one step for readers, kills and refusals."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
import yaml
from pyspark.sql import SparkSession

import kvspark
from kvspark.cli.app import run as command
from kvspark.config.job import JobConfig
from kvspark.errors import OutputError, RunLockedError, UsageError
from kvspark.fault import FAULT_POINT_ENV, FAULT_SIGNAL_ENV
from kvspark.infer.model import Model
from kvspark.spark.jobs.job import run_score
from kvspark.spark.jobs.rollback import run_rollback, versions_of
from kvspark.spark.publishing.open_publisher import publisher_of
from tests.object_server import S3Address
from tests.spark.small_jobs import job, published, write_night

pytestmark = pytest.mark.spark


@pytest.fixture
def folder(tmp_path: Path, mlp: Model) -> Path:
    mlp.save(tmp_path / "model")
    return tmp_path


@pytest.fixture
def url(s3: S3Address, spark: SparkSession) -> Iterator[str]:
    """A new target, which workers reach as well: the session may be older than the server."""
    environment = spark.sparkContext.environment
    environment.update(s3.environment)
    yield f"{s3.url}/{secrets.token_hex(4)}/scores"
    for name in s3.environment:
        environment.pop(name)


def in_s3(folder: Path, night: Path, url: str, **output: Any) -> JobConfig:
    return job(folder, night, output={"path": url, **output})


def read(url: str) -> pa.Table:
    """What a reader finds that asks the pointer for a folder, and reads it."""
    store = pafs.S3FileSystem(
        access_key=os.environ["AWS_ACCESS_KEY_ID"],
        secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        endpoint_override=os.environ["AWS_ENDPOINT_URL"],
        region=os.environ["AWS_REGION"],
    )
    place = url.removeprefix("s3://")
    with store.open_input_stream(f"{place}/_kvspark/pointer.json") as stream:
        current = json.loads(stream.read())["current"]["url"].removeprefix("s3://")
    return ds.dataset(current, filesystem=store, format="parquet").to_table().sort_by("id")


def test_three_nights_have_the_rows_of_a_local_folder_bit_for_bit(
    spark: SparkSession, folder: Path, url: str
) -> None:
    for number in range(3):
        night = write_night(folder / f"night{number}", seed=number)
        run_score(job(folder, night, output={"writer": "arrow"}), spark=spark)
        report = run_score(in_s3(folder, night, url), spark=spark)
        assert (report.output, report.writer, report.rows_out) == (url, "arrow", 200)
        local = published(folder / "out")
        found = read(url)
        assert found.schema.equals(local.schema, check_metadata=True)
        assert found.equals(local)
        sums = duckdb.execute("SELECT count(*), sum(scores[1]) FROM found").fetchall()
        assert sums == duckdb.execute("SELECT count(*), sum(scores[1]) FROM local").fetchall()


def test_kvspark_read_finds_what_is_published(spark: SparkSession, folder: Path, url: str) -> None:
    night = write_night(folder / "night")
    run_score(in_s3(folder, night, url), spark=spark)
    run_score(job(folder, night, output={"writer": "arrow"}), spark=spark)
    assert kvspark.read(url).to_table().sort_by("id").equals(published(folder / "out"))
    assert kvspark.read(folder / "out").to_table().sort_by("id").equals(published(folder / "out"))


def test_partitions_are_folders_and_a_night_without_rows_is_a_table(
    spark: SparkSession, folder: Path, url: str
) -> None:
    night = write_night(folder / "night")
    for path in night.iterdir():
        table = pq.read_table(path)
        kinds = pa.array([f"{'é/%' if i % 2 else 'a'}" for i in table["id"].to_pylist()])
        pq.write_table(table.append_column("kind", kinds), path)
    run_score(job(folder, night, output={"path": url, "partition_by": "kind"}), spark=spark)
    found = kvspark.read(url).to_table(columns=["id", "kind"]).to_pylist()
    assert len(found) == 200
    assert all(row["kind"] == ("é/%" if row["id"] % 2 else "a") for row in found)
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


def told_of(url: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What `kvspark report` says."""
    capsys.readouterr()
    assert command(["report", url, "--json"]) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


def test_a_quarantine_lies_beside_the_rows(spark: SparkSession, folder: Path, url: str) -> None:
    night = write_night(folder / "night")
    table = pa.table({"id": [1000, 1001], "x": pa.array([None, [1.0] * 8], pa.list_(pa.float32()))})
    pq.write_table(table, night / "bad.parquet")
    config = job(
        folder,
        night,
        input={"on_bad_row": "quarantine", "id": "id"},
        output={"path": url},
    )
    report = run_score(config, spark=spark)
    assert (report.rows_out, report.rows_quarantined) == (201, 1)
    assert kvspark.read(url).to_table().num_rows == 201
    assert kvspark.read(f"{url}", quarantine=True).to_table()["id"].to_pylist() == [1000]


@pytest.mark.slow
def test_a_signal_waits_for_the_commit_and_the_line_says_that_it_happened(
    folder: Path, url: str
) -> None:
    config = in_s3(folder, write_night(folder / "night"), url)
    (folder / "job.yaml").write_text(yaml.safe_dump(config.model_dump(exclude_unset=True)))
    ended = subprocess.run(
        [sys.executable, "-m", "kvspark.cli", "score", str(folder / "job.yaml")],
        env={**os.environ, FAULT_POINT_ENV: "synced", FAULT_SIGNAL_ENV: "SIGTERM"},
        check=False,
        timeout=300,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 143, ended.stderr
    last = ended.stderr.splitlines()[-1]
    assert last.endswith("the new output is published")
    assert read(url).num_rows == 200


def test_a_second_run_is_refused_with_its_own_exit_code(
    spark: SparkSession, folder: Path, url: str
) -> None:
    config = in_s3(folder, write_night(folder / "night"), url)
    publisher = publisher_of(config)
    assert publisher is not None
    with publisher.lock("other"), pytest.raises(RunLockedError, match="run other holds it") as told:
        run_score(config, spark=spark)
    assert told.value.exit_code == 75


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ({"mode": "append"}, "output.mode is append"),
        ({"writer": "spark"}, "output.writer is spark"),
        ({"path": "s3://bucket"}, "names no folder of a bucket"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_computed(
    folder: Path, url: str, output: dict[str, str], message: str
) -> None:
    config = job(folder, write_night(folder / "night"), output={"path": url, **output})
    with pytest.raises(UsageError, match=message):
        run_score(config)


def test_wrong_credentials_are_one_line_without_them(
    folder: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    config = in_s3(folder, write_night(folder / "night"), f"{url}-refused")
    with pytest.raises(OutputError, match="refuses these credentials") as told:
        run_score(config)
    assert "not-the-secret" not in str(told.value)
    assert "\n" not in str(told.value)


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
