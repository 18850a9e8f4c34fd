"""Rows in the order that `output.sort_by` asks for: in each file, whoever writes it, and with the same values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from kvspark.cli.app import run as command
from kvspark.config.job import JobConfig
from kvspark.errors import UsageError
from kvspark.infer.model import Model
from kvspark.spark.jobs.job import run_score
from tests.spark.conftest import features
from tests.spark.small_jobs import job, published

pytestmark = pytest.mark.spark


@pytest.fixture
def folder(tmp_path: Path, mlp: Model) -> Path:
    mlp.save(tmp_path / "model")
    days = [None if n % 7 == 0 else f"d{n % 3}" for n in range(300)]
    ids = np.random.default_rng(1).permutation(300)
    table = pa.table({"id": ids, "day": days, "x": list(features(300, seed=2))})
    (tmp_path / "night").mkdir()
    for number in range(3):
        pq.write_table(table.slice(number * 100, 100), tmp_path / "night" / f"{number}.parquet")
    return tmp_path


def sorted_job(folder: Path, names: list[str], **output: str) -> JobConfig:
    return job(folder, folder / "night", output={"sort_by": names, **output})


@pytest.mark.parametrize("writer", ["arrow", "spark"])
def test_the_rows_of_each_file_are_in_order_and_no_value_is_another(
    spark: SparkSession, folder: Path, writer: str
) -> None:
    run_score(job(folder, folder / "night"), spark=spark)
    before = published(folder / "out")
    report = run_score(sorted_job(folder, ["day", "id"], writer=writer), spark=spark)
    assert report.writer == writer
    files = [*(folder / "out").glob("part-*.parquet")]
    assert files
    for path in files:
        rows = pq.read_table(path, columns=["day", "id"]).to_pylist()
        keys = [(row["day"] is not None, row["day"] or "", row["id"]) for row in rows]
        assert keys == sorted(keys)
    assert published(folder / "out").equals(before)


def test_folders_of_partitions_are_in_order_too(spark: SparkSession, folder: Path) -> None:
    run_score(sorted_job(folder, ["id"], partition_by="day"), spark=spark)
    files = [*(folder / "out").glob("day=*/*.parquet")]
    assert len(files) >= 4
    for path in files:
        ids = pq.ParquetFile(path).read(["id"])["id"].to_pylist()
        assert ids == sorted(ids)


@pytest.mark.parametrize(
    ("name", "message"), [("days", "did you mean 'day'"), ("label", "name columns of the input")]
)
def test_a_column_that_has_no_order_yet_is_refused(
    spark: SparkSession,
    folder: Path,
    name: str,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = sorted_job(folder, [name])
    with pytest.raises(UsageError, match=rf"output\.sort_by: .*{message}"):
        run_score(config, spark=spark)
    assert not (folder / "out").exists()
    (folder / "job.yaml").write_text(config.model_dump_json(exclude_unset=True))
    assert command(["check", str(folder / "job.yaml")]) == 64
    assert message in capsys.readouterr().out
