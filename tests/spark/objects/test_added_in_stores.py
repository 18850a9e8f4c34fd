"""Whole jobs that add rows, or replace partitions, of Parquet files in an object store or in HDFS."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from pyspark.sql import SparkSession

import kvspark
from kvspark.config.job import JobConfig
from kvspark.errors import OutputError
from kvspark.spark.check.check import check_job
from kvspark.spark.jobs import prepared_run
from kvspark.spark.jobs.job import run_score
from kvspark.spark.jobs.rollback import run_rollback, versions_of
from kvspark.table.objects.storage import Storage
from kvspark.table.place.opening import open_objects
from tests.spark.conftest import features
from tests.spark.objects.test_job_in_stores import with_kinds
from tests.spark.small_jobs import job, write_night

pytestmark = pytest.mark.spark


def ids(url: str) -> list[int]:
    """Of all rows that a reader finds."""
    found: list[int] = kvspark.read(url).to_table(columns=["id"])["id"].to_pylist()
    return sorted(found)


def tags(url: str) -> dict[str, str | None]:
    """The files with rows, each with what tells it from its other versions."""
    found = open_objects(Storage(url)).listed("_runs")
    return {each.name: each.tag for each in found if each.name.endswith(".parquet")}


def test_nights_are_added_once_each_and_taken_away_again(
    spark: SparkSession, folder: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    night = with_kinds(write_night(folder / "night"))
    pq.write_table(
        pa.table({"id": [999], "x": pa.array([None], pa.list_(pa.float32())), "kind": ["a"]}),
        night / "bad.parquet",
    )

    def asked(run_id: str, only: str, **output: str) -> JobConfig:
        read = {"filter": only, "on_bad_row": "quarantine", "id": "id"}
        there = {"path": url, "mode": "append", "partition_by": "kind", **output}
        return job(folder, night, run={"id": run_id}, input=read, output=there)

    run_score(asked("first", "id < 100 OR id = 999"), spark=spark)
    first = tags(url)
    run_score(asked("second", "id >= 150 AND id < 200"), spark=spark)
    report = run_score(asked("second", "id >= 100 AND id < 200"), spark=spark)
    assert (report.rows_out, ids(url)) == (100, [*range(200)])
    assert {name: tags(url).get(name) for name in first} == first
    assert kvspark.read(url, quarantine=True).to_table()["id"].to_pylist() == [999]
    # Spark reads all files, and finds the columns of their folders.
    if url.startswith("hdfs:"):
        options = {"basePath": f"{url}/_runs", "ignoreInvalidPartitionPaths": "true"}
        by_spark = spark.read.options(**options).parquet(*kvspark.published_files(url))
        rows = kvspark.read(url).to_table(columns=["id", "kind"]).to_pylist()
        assert {(row.id, row.kind) for row in by_spark.select("id", "kind").collect()} == {
            (row["id"], row["kind"]) for row in rows
        }
    again = asked("second", "id % 2 = 0 AND id < 50", mode="replace_partitions")
    run_score(again, spark=spark)
    assert ids(url) == sorted([*range(0, 50, 2), *range(1, 200, 2)])
    assert "second: 125 rows" in versions_of(again)[0]
    assert "is the output of second again" in run_rollback(again)
    assert ids(url) == [*range(200)]
    refused_before_a_session(asked("third", "true", partition_by="label"), monkeypatch)


def refused_before_a_session(config: JobConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run and its check say the same."""
    monkeypatch.setattr(prepared_run, "open_session", None)
    with pytest.raises(
        OutputError, match="is partitioned by kind, and this run's rows by label"
    ) as told:
        run_score(config)
    faults = [each.error for each in check_job(config) if each.error is not None]
    assert str(told.value) in map(str, faults)


def test_what_was_added_to_a_table_is_added_to_its_scores_which_are_an_input(
    spark: SparkSession, folder: Path, url: str
) -> None:
    table = folder / "table"

    def grow(start: int, end: int) -> None:
        x = pa.array(list(features(200)[start:end]), pa.list_(pa.float32()))
        rows = pa.table({"id": np.arange(start, end), "x": x})
        write_deltalake(table, rows, mode="append")

    def night(run_id: str) -> JobConfig:
        read = {"format": "delta", "paths": [str(table)], "changed_since": "last_run"}
        output = {"path": url, "mode": "append"}
        return job(folder, folder, run={"id": run_id}, input=read, output=output)

    grow(0, 80)
    first = run_score(night("a"), spark=spark)
    grow(80, 100)
    second = run_score(night("b"), spark=spark)
    assert (second.rows_in, second.input_since) == (20, first.input_version)
    assert run_score(night("b"), spark=spark).rows_in == 20
    assert ids(url) == [*range(100)]
    output = {"path": str(folder / "again"), "writer": "arrow"}
    asked = {"paths": [url], "format": "parquet"}
    renamed = {"scores": "s", "label": "l"}
    report = run_score(
        job(folder, folder, input=asked, outputs=renamed, output=output), spark=spark
    )
    assert (report.rows_in, report.input_version) == (100, "run b")
