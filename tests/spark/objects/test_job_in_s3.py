"""A whole job whose output is in S3: other readers, signals, credentials. What HDFS promises too: `test_job_in_stores`."""

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
import pytest
import yaml
from pyspark.sql import SparkSession

from kvspark.config.job import JobConfig
from kvspark.errors import OutputError, UsageError
from kvspark.fault import FAULT_POINT_ENV, FAULT_SIGNAL_ENV
from kvspark.infer.model import Model
from kvspark.spark.jobs.job import run_score
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


def test_a_bucket_alone_is_no_place(folder: Path) -> None:
    config = in_s3(folder, write_night(folder / "night"), "s3://bucket")
    with pytest.raises(UsageError, match="names no folder of a bucket"):
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
