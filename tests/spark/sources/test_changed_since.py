"""Only what was added to a table since the last run is read and added to the output: every row once, whatever is repeated."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import SparkSession

from kvspark.config.job import JobConfig
from kvspark.errors import DataError, UsageError
from kvspark.infer.model import Model
from kvspark.spark.jobs.job import run_score
from kvspark.spark.jobs.rollback import run_rollback
from kvspark.spark.runs.run_report import RunReport
from tests.spark.conftest import features
from tests.spark.small_jobs import job, published, write_night
from tests.spark.sources.iceberg_tables import Lake

pytestmark = pytest.mark.spark


def rows(start: int, end: int) -> pa.Table:
    x = features(200)[start:end]
    return pa.table({"id": np.arange(start, end), "x": pa.array(list(x), pa.list_(pa.float32()))})


class Growing(ABC):
    """A table to which rows are added."""

    @property
    @abstractmethod
    def conf(self) -> dict[str, Any]: ...

    @abstractmethod
    def add(self, table: pa.Table) -> None: ...

    @abstractmethod
    def remove(self, row: int) -> None: ...


class GrowingDelta(Growing):
    def __init__(self, folder: Path) -> None:
        self.path = folder / "t"

    @property
    def conf(self) -> dict[str, Any]:
        return {"format": "delta", "paths": [str(self.path)]}

    def add(self, table: pa.Table) -> None:
        write_deltalake(self.path, table, mode="append")

    def remove(self, row: int) -> None:
        DeltaTable(self.path).delete(f"id = {row}")


class GrowingIceberg(Growing):
    def __init__(self, folder: Path) -> None:
        self.lake = Lake(folder)
        self.table = self.lake.catalog.create_table("ns.t", rows(0, 0).schema)

    @property
    def conf(self) -> dict[str, Any]:
        return self.lake.conf

    def add(self, table: pa.Table) -> None:
        self.table.append(table)

    def remove(self, row: int) -> None:
        self.table.delete(f"id == {row}")


@pytest.fixture(params=[GrowingDelta, GrowingIceberg])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Growing:
    made: Growing = request.param(tmp_path)
    return made


@pytest.fixture
def folder(tmp_path: Path, mlp: Model) -> Path:
    mlp.save(tmp_path / "model")
    return tmp_path


def night(folder: Path, table: Growing, run_id: str, **more: Any) -> JobConfig:
    conf = {**table.conf, "changed_since": "last_run", **more}
    return job(folder, folder, run={"id": run_id}, input=conf, output={"mode": "append", "keep": 3})


def expected(spark: SparkSession, folder: Path, count: int) -> pa.Table:
    """What one run of the first `count` rows publishes."""
    all_rows = write_night(folder / f"all{count}")
    config = job(folder, all_rows, input={"filter": f"id < {count}"})
    run_score(
        config.model_copy(
            update={"output": config.output.model_copy(update={"path": str(folder / "whole")})}
        ),
        spark=spark,
    )
    return published(folder / "whole")


def read(report: RunReport) -> tuple[int, str | None, str | None]:
    return report.rows_in, report.input_since, report.input_version


def test_nights_read_what_was_added_and_a_night_that_is_repeated_reads_the_same(
    spark: SparkSession, folder: Path, table: Growing
) -> None:
    table.add(rows(0, 80))
    first = run_score(night(folder, table, "a"), spark=spark)
    assert (first.rows_in, first.input_since) == (80, None)
    table.add(rows(80, 100))
    table.add(rows(100, 120))
    # Done again, the first night is what it was, although the table has grown.
    assert read(run_score(night(folder, table, "a"), spark=spark)) == read(first)
    second = run_score(night(folder, table, "b"), spark=spark)
    assert (second.rows_in, second.input_since) == (40, first.input_version)
    table.add(rows(120, 150))
    assert read(run_score(night(folder, table, "b"), spark=spark)) == read(second)
    assert published(folder / "out").equals(expected(spark, folder, 120))
    third = run_score(night(folder, table, "c"), spark=spark)
    assert (third.rows_in, third.input_since) == (30, second.input_version)
    nothing = run_score(night(folder, table, "d"), spark=spark)
    assert read(nothing) == (0, third.input_version, third.input_version)
    assert published(folder / "out").equals(expected(spark, folder, 150))
    with pytest.raises(
        UsageError, match=r"run b has added rows to .*, and d after it; nothing was written"
    ):
        run_score(night(folder, table, "b"), spark=spark)


@pytest.mark.parametrize("format_", ["delta", "iceberg"])
def test_a_table_takes_what_was_added_too(spark: SparkSession, folder: Path, format_: str) -> None:
    table = GrowingDelta(folder)
    lake = Lake(folder)
    path = str(folder / "delta") if format_ == "delta" else "iceberg:lake/ns.scores"
    output = {"format": format_, "path": path, "mode": "append", "keep": 3}
    if format_ == "iceberg":
        output["catalog"] = lake.properties

    def config(run_id: str) -> JobConfig:
        conf = {**table.conf, "changed_since": "last_run"}
        return job(folder, folder, run={"id": run_id}, input=conf, output=output)

    def scored() -> pa.Table:
        if format_ == "delta":
            return pa.table(DeltaTable(path).to_pyarrow_table())
        return lake.catalog.load_table("ns.scores").scan().to_arrow()

    def ids() -> list[int]:
        found: list[int] = scored()["id"].to_pylist()
        return sorted(found)

    table.add(rows(0, 80))
    first = run_score(config("a"), spark=spark)
    table.add(rows(80, 100))
    assert read(run_score(config("a"), spark=spark)) == read(first)
    second = run_score(config("b"), spark=spark)
    assert (second.rows_in, second.input_since) == (20, first.input_version)
    assert ids() == [*range(100)]
    with pytest.raises(UsageError, match=r"run a has added rows to .*, and b after it"):
        run_score(config("a"), spark=spark)
    run_rollback(config("b"))
    assert ids() == [*range(80)]
    assert read(run_score(config("c"), spark=spark))[:2] == (20, first.input_version)
    if format_ == "iceberg":  # what others add says nothing of what was read
        lake.catalog.load_table("ns.scores").append(scored().slice(0, 1))
        table.add(rows(100, 103))
        assert run_score(config("d"), spark=spark).rows_in == 3
        assert len(ids()) == 104


def test_what_was_rolled_back_is_read_again(
    spark: SparkSession, folder: Path, table: Growing
) -> None:
    for number, run_id in enumerate("ab"):
        table.add(rows(50 * number, 50 * number + 50))
        run_score(night(folder, table, run_id), spark=spark)
    run_rollback(night(folder, table, "b"))
    assert published(folder / "out").num_rows == 50
    table.add(rows(100, 110))
    # The run that was rolled back is none that has added rows.
    report = run_score(night(folder, table, "b"), spark=spark)
    assert report.rows_in == 60
    assert published(folder / "out").equals(expected(spark, folder, 110))


def test_rows_that_were_changed_fail_the_run(
    spark: SparkSession, folder: Path, table: Growing
) -> None:
    table.add(rows(0, 50))
    run_score(night(folder, table, "a"), spark=spark)
    before = published(folder / "out")
    table.remove(7)
    table.add(rows(50, 60))
    with pytest.raises(DataError, match=r"rows were changed or removed.*nothing was written"):
        run_score(night(folder, table, "b"), spark=spark)
    assert published(folder / "out").equals(before)


def test_another_table_at_the_same_place_is_refused(spark: SparkSession, folder: Path) -> None:
    table = GrowingDelta(folder)
    table.add(rows(0, 10))
    report = run_score(night(folder, table, "a"), spark=spark)
    (path,) = table.conf["paths"]
    shutil.rmtree(path)
    table.add(rows(50, 51))
    table.add(rows(51, 52))
    with pytest.raises(DataError, match=r"read another table of this name.*nothing was written"):
        run_score(night(folder, table, "b"), spark=spark)
    assert published(folder / "out").num_rows == report.rows_out


def test_rows_that_another_filter_has_left_out_are_not_forgotten(
    spark: SparkSession, folder: Path, table: Growing
) -> None:
    table.add(rows(0, 10))
    run_score(night(folder, table, "a", filter="id > 4"), spark=spark)
    table.add(rows(10, 12))
    with pytest.raises(DataError, match=r"or had another input\.filter .*nothing was written"):
        run_score(night(folder, table, "b"), spark=spark)
    assert run_score(night(folder, table, "b", filter="id > 4"), spark=spark).rows_in == 2


def test_a_first_night_without_rows_is_followed_by_all_of_them(
    spark: SparkSession, folder: Path
) -> None:
    table = GrowingIceberg(folder)
    assert read(run_score(night(folder, table, "a"), spark=spark)) == (0, None, "no snapshot")
    table.add(rows(0, 20))
    assert run_score(night(folder, table, "a"), spark=spark).rows_in == 0
    assert run_score(night(folder, table, "b"), spark=spark).rows_in == 20
    assert published(folder / "out").num_rows == 20


def test_an_output_of_another_input_is_refused(spark: SparkSession, folder: Path) -> None:
    table = GrowingDelta(folder)
    table.add(rows(0, 50))
    run_score(job(folder, write_night(folder / "night")), spark=spark)
    with pytest.raises(
        DataError, match=r"the last run of .* read no version of .*nothing was written"
    ):
        run_score(night(folder, table, "b"), spark=spark)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"output": {"mode": "replace"}}, r"output\.mode: replace keeps nothing else; set append"),
        ({"input": {"format": "parquet"}}, r"input\.changed_since is of delta and iceberg"),
        ({"input": {"version": 3}}, r"input\.version names another"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    folder: Path, sections: dict[str, Any], message: str
) -> None:
    table = GrowingDelta(folder)
    config = night(folder, table, "a").model_dump(exclude_unset=True)
    for name, values in sections.items():
        config[name] = {**config[name], **values}
    with pytest.raises(UsageError, match=message):
        JobConfig.checked(**config)
