"""Whole jobs whose workers write: the same output, quarantine, appended table and errors as with Spark's writer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from kvspark.config.job import JobConfig
from kvspark.config.table.output_table import OutputConfig
from kvspark.errors import RowError
from kvspark.infer.model import Model
from kvspark.spark.jobs.job import run_score
from kvspark.spark.jobs.rollback import run_rollback
from kvspark.spark.output.manifest import read_manifest
from kvspark.spark.writing.arrow_writer import sink_options
from tests.faults.conftest import names_in
from tests.spark.small_jobs import job, published, write_night

pytestmark = pytest.mark.spark

WRITERS = ("spark", "arrow")


@pytest.fixture
def home(tmp_path: Path, mlp: Model) -> Path:
    mlp.save(tmp_path / "model")
    return tmp_path


def night(home: Path, writer: str, **sections: Any) -> JobConfig:
    """The job that scores the folder `home/night` into `home/WRITER`."""
    output = {"path": str(home / writer), "writer": writer, **sections.pop("output", {})}
    if not (home / "night").exists():
        write_night(home / "night")
    return job(home, home / "night", output=output, **sections)


def test_the_output_is_the_same_and_its_files_are_listed(spark: SparkSession, home: Path) -> None:
    reports = [run_score(night(home, writer), spark=spark) for writer in WRITERS]
    assert [report.writer for report in reports] == ["spark", "arrow"]
    assert published(home / "arrow").equals(published(home / "spark"))
    manifest = read_manifest(home / "arrow")
    assert manifest is not None
    data = [name for name in manifest.files if name.startswith("part-")]
    assert len(data) == reports[1].output_files == 2
    assert manifest.added(home / "arrow") == manifest.lost(home / "arrow") == []
    assert not (home / ".kvspark-arrow").exists()


def test_row_groups_and_compression_are_those_of_the_conf(spark: SparkSession, home: Path) -> None:
    run_score(night(home, "arrow", output={"group_rows": 30, "compression": "gzip"}), spark=spark)
    footers = [pq.read_metadata(part) for part in (home / "arrow").glob("part-*.gzip.parquet")]
    groups = [[each.row_group(n).num_rows for n in range(each.num_row_groups)] for each in footers]
    assert groups == [[30, 30, 30, 10]] * 2
    assert {each.row_group(0).column(0).compression for each in footers} == {"GZIP"}


def test_a_file_is_as_small_as_the_conf_says() -> None:
    small, large = (
        sink_options(OutputConfig.checked(path="/out", file_mb=size)) for size in (2, 900)
    )
    assert (small.file_bytes, small.group_bytes) == (2 << 20, 2 << 20)
    assert (large.file_bytes, large.group_bytes) == (900 << 20, 64 << 20)


def test_bad_rows_and_folders_are_as_with_spark(spark: SparkSession, home: Path) -> None:
    write_night(home / "plain")
    rows = spark.read.parquet(str(home / "plain"))
    kind = F.expr("if(id % 3 = 0, null, concat('a/', id % 2))").alias("kind")
    x = F.when(F.col("id") % 10 != 3, F.col("x")).alias("x")
    rows.select("id", x, kind).write.parquet(str(home / "night"))
    found = []
    for writer in WRITERS:
        config = night(
            home,
            writer,
            input={"on_bad_row": "quarantine", "id": ["id"]},
            output={"partition_by": ["kind"]},
        )
        report = run_score(config, spark=spark)
        assert (report.writer, report.rows_out, report.rows_quarantined) == (writer, 180, 20)
        aside = pq.read_table(home / writer / "_kvspark" / "quarantine").sort_by("id")
        read = spark.read.parquet(str(home / writer)).orderBy("id")
        found.append((aside["id"].to_pylist(), read.schema, read.collect()))
    assert found[0] == found[1]


def test_a_bad_row_is_named_and_nothing_is_left(spark: SparkSession, home: Path) -> None:
    run_score(night(home, "arrow"), spark=spark)
    (home / "night").rename(home / "first")
    write_night(home / "plain", 8_000)
    x = F.when(F.col("id") != 7_777, F.col("x")).otherwise(F.slice("x", 1, 7)).alias("x")
    spark.read.parquet(str(home / "plain")).select("id", x).write.parquet(str(home / "night"))
    with pytest.raises(RowError, match=r"night/part-.*\.parquet row \d+: input 'x'"):
        run_score(night(home, "arrow"), spark=spark)
    assert published(home / "arrow").num_rows == 200
    assert names_in(home / ".kvspark-arrow") == {"unpublished.jsonl"}


def test_rows_are_added_to_what_the_other_writer_wrote(spark: SparkSession, home: Path) -> None:
    for number, writer in enumerate((*WRITERS, "spark", "arrow")):
        output = {"path": str(home / "out"), "mode": "append"}
        run = {"id": f"night-{number // 2}" if number == 3 else f"night-{number}"}
        report = run_score(night(home, writer, output=output, run=run), spark=spark)
        assert report.writer == writer
    table = ds.dataset(home / "out", format="parquet").to_table()
    assert table.num_rows == 4 * 200 - 200  # the last run replaced what night-1 added
    assert table["id"].to_pylist().count(7) == 3
    run_rollback(night(home, "arrow", output={"path": str(home / "out")}))
    assert ds.dataset(home / "out", format="parquet").count_rows() == 600


def test_a_table_has_one_form_of_timestamps(spark: SparkSession, home: Path) -> None:
    write_night(home / "plain")
    when = F.timestamp_seconds("id").alias("when")
    spark.read.parquet(str(home / "plain")).select("*", when).write.parquet(str(home / "night"))
    told = []
    for number, writer in enumerate(WRITERS):
        output = {"path": str(home / "out"), "mode": "append"}
        run = {"id": f"night-{number}"}
        told.append(run_score(night(home, writer, output=output, run=run), spark=spark).writer)
    assert told[1] == "spark: column 'when' is INT96 in the table that rows are added to"
    assert spark.read.parquet(str(home / "out")).count() == 400
