"""Partitioned outputs, and runs that add their rows to a table: once each, however often they are repeated."""

from __future__ import annotations

import datetime as dt
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from pyspark.sql.types import NullType, StructField, StructType

from kvspark.config.job import JobConfig
from kvspark.errors import OutputError, UsageError
from kvspark.infer.model import Model
from kvspark.spark.check.check import check_job
from kvspark.spark.jobs import prepared_run
from kvspark.spark.jobs.job import run_score
from kvspark.spark.jobs.rollback import run_rollback
from kvspark.spark.output.appended import add_to
from kvspark.spark.publishing import written_rows
from kvspark.spark.runs.history import read_history
from kvspark.spark.sources.by_spark import local_parquet
from kvspark.spark.tables.footer_schema import schema_of
from kvspark.spark.tables.input_files import InputFiles
from tests.spark.publishing import publish, target_at
from tests.spark.small_jobs import job, write_night

pytestmark = pytest.mark.spark


@pytest.fixture
def home(tmp_path: Path, mlp: Model) -> Path:
    mlp.save(tmp_path / "model")
    return tmp_path


def night(home: Path, name: str, rows: int, **output: Any) -> JobConfig:
    """The run `name` of `rows` rows, which adds them to the output."""
    folder = home / f"in-{rows}"
    if not folder.exists():
        write_night(folder, rows, files=1)
    values = {"path": str(home / "out"), "mode": "append", **output}
    return job(home, folder, run={"id": name}, output=values, outputs={"label": "label"})


def rows(home: Path) -> int:
    found: int = ds.dataset(home / "out", format="parquet").count_rows()
    return found


def test_a_run_adds_its_rows_once_however_often_it_is_repeated(
    spark: SparkSession, home: Path
) -> None:
    run_score(night(home, "first", 30), spark=spark)
    run_score(night(home, "second", 20), spark=spark)
    assert rows(home) == 50
    before = {path.name: path.stat().st_ino for path in (home / "out").glob("part-*")}
    run_score(night(home, "second", 10), spark=spark)
    assert rows(home) == 40
    run_score(night(home, "first", 30), spark=spark)
    assert rows(home) == 40
    assert Counter(spark.read.parquet(str(home / "out")).toArrow()["id"].to_pylist())[5] == 2
    assert before
    assert not list((home / "out").glob("*.tmp"))


def test_runs_go_on_adding_where_one_has_written_a_file_without_rows(
    spark: SparkSession, home: Path
) -> None:
    for number in range(4):  # one row in two tasks: one of them has none
        run_score(night(home, f"night-{number}", 1), spark=spark)
        assert rows(home) == number + 1
    run_score(night(home, "night-1", 2), spark=spark)
    assert rows(home) == 5


def test_a_table_that_has_lost_rows_is_not_added_to(spark: SparkSession, home: Path) -> None:
    run_score(night(home, "first", 30), spark=spark)
    lost = next((home / "out").glob("part-*.parquet"))
    lost.unlink()
    with pytest.raises(OutputError, match=f"{lost.name} of an earlier run is gone"):
        run_score(night(home, "second", 20), spark=spark)


def test_a_rollback_takes_the_added_rows_away(spark: SparkSession, home: Path) -> None:
    run_score(night(home, "first", 30), spark=spark)
    run_score(night(home, "second", 20), spark=spark)
    run_rollback(night(home, "second", 20))
    assert rows(home) == 30


def test_rows_are_added_to_what_a_run_replaced(spark: SparkSession, home: Path) -> None:
    run_score(night(home, "whole", 30, mode="replace"), spark=spark)
    run_score(night(home, "second", 20), spark=spark)
    assert rows(home) == 50
    run_score(night(home, "whole", 10), spark=spark)
    assert rows(home) == 30


@pytest.mark.parametrize(
    ("table", "folder", "said"),
    [
        ({"content": [1]}, "", "its column 'content' is .*, and .*INT64.* in this run's rows"),
        (
            {"content": ["a"], "more": [1]},
            "",
            "its column 'more' is missing, and .* in this run's rows",
        ),
        ({"content": ["a"]}, "day=1", "it is partitioned by nothing, and this run's rows by day"),
    ],
    ids=["type", "more", "folders"],
)
def test_what_differs_from_the_table_is_named(
    tmp_path: Path, table: dict[str, Any], folder: str, said: str
) -> None:
    publish(target_at(tmp_path / "out"), "first")
    staged = tmp_path / "staged"
    (staged / folder).mkdir(parents=True)
    pq.write_table(pa.table(table), staged / folder / "part-9.parquet")
    with pytest.raises(OutputError, match=said):
        add_to(tmp_path / "out", staged, "second")


def test_another_table_is_not_added_to(spark: SparkSession, home: Path) -> None:
    run_score(night(home, "first", 30), spark=spark)
    listed = sorted((home / "out").iterdir())
    other = night(home, "second", 20).model_copy(update={"outputs": {"label": "class"}})
    with pytest.raises(OutputError, match=r"column 'label' is bigint, and missing in this run"):
        run_score(other, spark=spark)
    assert sorted((home / "out").iterdir()) == listed


@pytest.mark.parametrize(
    ("column", "output", "said"),
    [
        (
            pa.array(range(20), pa.int32()),
            {},
            "its column 'id' is bigint, and int in this run's rows",
        ),
        (pa.array(range(20)), {"partition_by": "id"}, "by nothing, and this run's rows by id"),
    ],
    ids=["type", "folders"],
)
def test_what_differs_from_the_table_is_told_before_a_session_is_opened(
    spark: SparkSession,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    column: pa.Array,
    output: dict[str, Any],
    said: str,
) -> None:
    run_score(night(home, "first", 30), spark=spark)
    before = rows(home)
    config = night(home, "second", 20, **output)
    for path in (home / "in-20").iterdir():
        table = pq.read_table(path)
        pq.write_table(table.set_column(0, "id", column), path)
    monkeypatch.setattr(prepared_run, "open_session", None)
    with pytest.raises(OutputError, match=said):
        run_score(config)
    (fault,) = (looked.error for looked in check_job(config) if looked.error is not None)
    assert said in str(fault)
    assert rows(home) == before


def test_a_column_that_only_spark_knows_is_compared_before_a_row_is_scored(
    spark: SparkSession, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_score(night(home, "first", 30), spark=spark)
    config = night(home, "second", 20)
    monkeypatch.setattr(local_parquet, "schema_of", unknown_columns)
    other = config.model_copy(update={"outputs": {"label": "class"}})
    written: list[Path] = []
    monkeypatch.setattr(written_rows, "_writer", lambda *_: written.append(home))
    with pytest.raises(OutputError, match="column 'label' is bigint, and missing"):
        run_score(other, spark=spark)
    assert written == []


def unknown_columns(files: InputFiles) -> StructType:
    """A table of whose columns nothing but the names is known."""
    return StructType([StructField(field.name, NullType()) for field in schema_of(files)])


def test_a_run_killed_while_it_adds_leaves_the_table_and_is_repeated(
    spark: SparkSession, home: Path
) -> None:
    run_score(night(home, "first", 30), spark=spark)
    before = {path: path.read_bytes() for path in (home / "out").rglob("*") if path.is_file()}
    target = target_at(home / "out")
    with target.lock("second"):
        staged = target.stage("second")
        pq.write_table(pa.table({"id": [1]}), _made(staged) / "part-1.parquet")
        with pytest.raises(OutputError):  # it ends here, with the old files linked or not
            add_to(home / "out", staged, "second")
        for path in before:
            if path.suffix == ".parquet":
                os.link(path, staged / f"linked-{path.name}")
        note = (home / ".kvspark-out" / "lock").read_bytes()
    (home / ".kvspark-out" / "lock").write_bytes(note)  # as kill -9 leaves it
    run_score(night(home, "second", 20), spark=spark)
    assert rows(home) == 50
    assert [run.state for run in read_history(home / "out")] == ["published", "died", "published"]
    run_rollback(night(home, "second", 20))
    after = {path: path.read_bytes() for path in (home / "out").rglob("*") if path.is_file()}
    assert after == before


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def test_folders_of_partitions_are_written_and_added_to(spark: SparkSession, home: Path) -> None:
    for name, count in (("first", 30), ("second", 20)):
        config = night(home, name, count, partition_by=["label"])
        assert run_score(config, spark=spark).rows_out == count
    read = spark.read.parquet(str(home / "out"))
    assert read.count() == rows(home) == 50
    assert read.columns[-1] == "label"
    assert all("=" in path.name for path in (home / "out").iterdir() if path.name[0] not in "._")
    empty = night(home, "third", 20, partition_by=["label"])
    none = empty.model_copy(update={"input": empty.input.model_copy(update={"filter": "false"})})
    run_score(none, spark=spark)
    assert spark.read.parquet(str(home / "out")).count() == 50


def test_a_column_of_folder_names_keeps_its_type(
    spark: SparkSession, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files do not have it, and readers guess one type for all folders."""

    def by_day(rows: int, days: pa.Array) -> JobConfig:
        config = night(home, str(rows), rows, mode="replace_partitions", partition_by="day")
        for path in (home / f"in-{rows}").iterdir():
            pq.write_table(pq.read_table(path).append_column("day", days), path)
        return config

    day = dt.date(2026, 1, 1)
    run_score(by_day(10, pa.array([str(day)] * 10)), spark=spark)
    before = sorted((home / "out").rglob("*"))
    again = by_day(12, pa.array([str(day)] * 12))
    monkeypatch.setattr(prepared_run, "open_session", None)
    said = "named by column 'day' as string, which is {} in this run's rows; nothing was published"
    for rows, days, kind in ((20, [day] * 20, "date"), (30, [20260101] * 30, "bigint")):
        with pytest.raises(OutputError, match=said.format(kind)):
            run_score(by_day(rows, pa.array(days)))
    assert sorted((home / "out").rglob("*")) == before
    report = home / "out" / "_kvspark" / "run.json"
    assert json.loads(report.read_text())["partition_types"] == {"day": "string"}
    monkeypatch.undo()
    assert run_score(again, spark=spark).rows_out == 12


def test_a_partition_that_is_no_column_is_refused(spark: SparkSession, home: Path) -> None:
    with pytest.raises(UsageError, match=r"output\.partition_by: there is no column 'dt'"):
        run_score(night(home, "first", 10, partition_by="dt"), spark=spark)
    assert not (home / "out").exists()


def test_a_run_without_a_name_cannot_add(home: Path) -> None:
    config = night(home, "first", 10)
    nameless = JobConfig.checked(**{**config.model_dump(), "run": {"name": "small"}})
    with pytest.raises(UsageError, match=r"append needs run\.id or run\.logical_date"):
        run_score(nameless)
    assert not (home / "out").exists()
    with pytest.raises(OutputError, match="no "):  # which needs no name
        run_rollback(nameless)
