"""A job between Google Cloud Storage and Azure publishes the rows of a disk, and sees what changed in its input."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

import kvspark
from kvspark.errors import DataError
from kvspark.infer.model import Model
from kvspark.spark.jobs.job import run_score
from tests.spark.small_jobs import job, published, write_night
from tests.spark.sources.twins import found, remote_folder, upload

pytestmark = pytest.mark.spark


def test_a_job_reads_in_one_and_publishes_in_the_other_what_it_does_on_a_disk(
    spark: SparkSession, tmp_path: Path, mlp: Model, request: pytest.FixtureRequest
) -> None:
    mlp.save(tmp_path / "model")
    night = write_night(tmp_path / "night")
    run_score(job(tmp_path, night), spark=spark)
    local = published(tmp_path / "out")
    with remote_folder("gcs", request, spark) as url, remote_folder("azure", request, spark) as out:
        there = {"paths": [upload(night, url)]}
        report = run_score(job(tmp_path, night, input=there, output={"path": out}), spark=spark)
        assert report.input_names == (f"{url}/0.parquet", f"{url}/1.parquet")
        assert kvspark.read(out).to_table().sort_by("id").equals(local)


@pytest.mark.parametrize("kind", ["gcs", "azure"])
def test_an_object_that_is_written_while_a_run_reads_is_an_error(
    spark: SparkSession, tmp_path: Path, request: pytest.FixtureRequest, kind: str
) -> None:
    with remote_folder(kind, request, spark) as url:
        there = found(upload(write_night(tmp_path / "night"), url))
        there.check_unchanged()
        upload(write_night(tmp_path / "other", seed=9), url)
        with pytest.raises(DataError, match=r"\d\.parquet changed while the run read it"):
            there.check_unchanged()
