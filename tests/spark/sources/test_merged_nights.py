"""Jobs that read what was changed in a table and merge it: night by night the output of one run of the whole table."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, final

import pyarrow as pa
import pytest
import torch
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import SparkSession

from kvspark.config.job import JobConfig
from kvspark.errors import DataError, UsageError
from kvspark.infer.model import Model
from kvspark.spark.check.check import check_job
from kvspark.spark.jobs.job import run_score
from kvspark.spark.jobs.plan_job import plan_job
from kvspark.spark.jobs.rollback import run_rollback
from tests.small_models import Mlp
from tests.spark.conftest import features
from tests.spark.small_jobs import job, published
from tests.spark.sources.iceberg_tables import Lake
from tests.table.publish.merging import publish

pytestmark = pytest.mark.spark


@pytest.fixture
def folder(tmp_path: Path, mlp: Model) -> Path:
    mlp.save(tmp_path / "model")
    return tmp_path


def rows(ids: list[int], seed: int = 3) -> pa.Table:
    x = features(200, seed=seed)[ids]
    return pa.table({"id": pa.array(ids, pa.int64()), "x": pa.array([*x], pa.list_(pa.float32()))})


class Table(ABC):
    @property
    @abstractmethod
    def conf(self) -> Mapping[str, Any]: ...

    @abstractmethod
    def insert(self, table: pa.Table) -> None: ...

    @abstractmethod
    def change(self, table: pa.Table) -> None: ...

    @abstractmethod
    def remove(self, row: int) -> None: ...

    @abstractmethod
    def output(self, folder: Path) -> Mapping[str, Any]: ...

    @abstractmethod
    def scored(self, folder: Path) -> pa.Table:
        """What the format's own client finds in the output."""


@final
class Delta(Table):
    def __init__(self, folder: Path) -> None:
        self.path = folder / "customers"

    @property
    def conf(self) -> Mapping[str, Any]:
        return {"format": "delta", "paths": [str(self.path)]}

    def insert(self, table: pa.Table) -> None:
        feed = {"delta.enableChangeDataFeed": "true"}
        write_deltalake(self.path, table, mode="append", configuration=feed)

    def change(self, table: pa.Table) -> None:
        merge = DeltaTable(self.path).merge(table, "s.id = t.id", "s", "t")
        merge.when_matched_update_all().execute()

    def remove(self, row: int) -> None:
        DeltaTable(self.path).delete(f"id = {row}")

    def output(self, folder: Path) -> Mapping[str, Any]:
        return {"format": "delta", "path": str(folder / "scores")}

    def scored(self, folder: Path) -> pa.Table:
        return pa.table(DeltaTable(folder / "scores").to_pyarrow_table()).sort_by("id")


@final
class Iceberg(Table):
    def __init__(self, folder: Path) -> None:
        self.lake = Lake(folder)
        self.table = self.lake.catalog.create_table("ns.t", rows([]).schema)

    @property
    def conf(self) -> Mapping[str, Any]:
        return self.lake.conf

    def insert(self, table: pa.Table) -> None:
        self.table.append(table)

    def change(self, table: pa.Table) -> None:
        for row in table["id"].to_pylist():
            self.table.delete(f"id == {row}")
        self.table.append(table)

    def remove(self, row: int) -> None:
        self.table.delete(f"id == {row}")

    def output(self, folder: Path) -> Mapping[str, Any]:
        del folder
        path = "iceberg:lake/ns.scores"
        return {"format": "iceberg", "path": path, "catalog": self.lake.properties}

    def scored(self, folder: Path) -> pa.Table:
        del folder
        return self.lake.catalog.load_table("ns.scores").scan().to_arrow().sort_by("id")


def night(folder: Path, table: Table, run_id: str, **asked: Any) -> JobConfig:
    conf = {**table.conf, "changed_since": "last_run", **asked}
    output = {**table.output(folder), "mode": "merge", "merge_by": "id", "keep": 3}
    cache = {"url": f"embedded:{folder}/cache", "sealed": False}
    return job(folder, folder, run={"id": run_id}, input=conf, output=output, cache=cache)


def from_scratch(spark: SparkSession, folder: Path, table: Table, **asked: Any) -> pa.Table:
    """What one run of the whole table publishes, without a cache."""
    number = len([*folder.glob("whole*")])
    path = folder / f"whole{number}"
    config = job(folder, folder, input={**table.conf, **asked}, output={"path": str(path)})
    run_score(config, spark=spark)
    return published(path).cast(table.scored(folder).schema)


@pytest.mark.parametrize("kind", [Delta, Iceberg])
def test_nights_of_changed_and_removed_rows_leave_what_one_run_of_the_whole_table_would(
    spark: SparkSession, folder: Path, kind: type[Delta] | type[Iceberg]
) -> None:
    table = kind(folder)
    table.insert(rows([*range(100)]))
    first = run_score(night(folder, table, "a"), spark=spark)
    assert (first.rows_in, first.rows_replaced, first.rows_removed) == (100, 0, 0)
    table.change(rows([3, 70], seed=9))
    table.remove(8)
    table.insert(rows([120]))
    config = night(folder, table, "b")
    looked = [*check_job(config, opens_session=False)]
    assert [each.error for each in looked if each.error] == []
    told = {each.finding.what: each.finding.got for each in looked}
    assert f"what is new since {first.input_version}" in told["input"]
    assert told["output"].endswith("(merged into)")
    assert plan_job(config, spark=spark).rows == 3 or kind is Iceberg
    report = run_score(config, spark=spark)
    assert table.scored(folder).equals(from_scratch(spark, folder, table))
    assert (report.input_since, report.rows_removed) == (first.input_version, 1)
    assert report.rows_replaced == report.rows_in - 1
    if kind is Delta:
        assert report.rows_in == 3
    else:  # of a file that was written again all rows are read, and found in the cache
        hits = [report.stats.stages[stage.name].hits for stage in report.stages]
        assert max(hits) == report.rows_in - 3
    table.change(rows([3], seed=5))
    # Done again, the night is what it was, although the table has changed.
    again = run_score(config, spark=spark)
    assert (again.input_since, again.input_version) == (report.input_since, report.input_version)
    assert (again.rows_in, again.rows_removed) == (report.rows_in, 0)
    with pytest.raises(UsageError, match=r"needs run\.id or run\.logical_date"):
        run_score(night(folder, table, "c").model_copy(update={"run": nameless(config)}))
    run_score(night(folder, table, "c"), spark=spark)
    assert table.scored(folder).equals(from_scratch(spark, folder, table))
    run_rollback(config)
    run_score(night(folder, table, "d"), spark=spark)
    assert table.scored(folder).equals(from_scratch(spark, folder, table))


def nameless(config: JobConfig) -> Any:
    return config.run.model_copy(update={"id": None})


def test_a_row_that_the_filter_leaves_out_now_and_one_that_is_bad_now_go(
    spark: SparkSession, folder: Path
) -> None:
    table = Delta(folder)
    table.insert(rows([*range(50)]).append_column("kind", pa.array(["a"] * 50)))
    asked = {"filter": "kind = 'a'", "on_bad_row": "quarantine", "id": "id"}
    run_score(night(folder, table, "a", **asked), spark=spark)
    there = DeltaTable(table.path)
    there.update(updates={"kind": "'b'"}, predicate="id = 4")
    there.update(updates={"x": "null"}, predicate="id = 5")
    report = run_score(night(folder, table, "b", **asked), spark=spark)
    assert (report.rows_in, report.rows_out, report.rows_quarantined) == (1, 0, 1)
    assert (report.rows_replaced, report.rows_removed) == (0, 2)
    assert table.scored(folder).equals(from_scratch(spark, folder, table, **asked))


def test_an_output_that_cannot_have_the_columns_is_told_by_check(folder: Path) -> None:
    price = pa.array([Decimal("1.50")])
    write_deltalake(folder / "customers", rows([1]).append_column("price", price))
    publish(folder / "scores", "a", pa.table({"id": [1], "gone": ["x"]}))
    for asked, message in (
        ({}, "a column 'gone'"),
        ({"partition_by": ["price"]}, "'price' of type"),
    ):
        output = {"format": "delta", "path": str(folder / "scores"), **asked}
        table = {"format": "delta", "paths": [str(folder / "customers")]}
        config = job(folder, folder, input=table, output=output)
        told = [str(each.error) for each in check_job(config, opens_session=False) if each.error]
        assert len(told) == 1
        assert message in told[0]


def test_rows_that_a_merge_of_the_whole_input_has_left_are_not_built_on(
    spark: SparkSession, folder: Path
) -> None:
    table = Delta(folder)
    table.insert(rows([1, 2]))
    plain = night(folder, table, "a", changed_since=None)
    assert run_score(plain, spark=spark).rows_in == 2
    table.remove(1)  # and the next such merge would leave its row
    asked = night(folder, table, "b")
    with pytest.raises(DataError, match=r"kept rows without asking.*mode: replace"):
        run_score(asked, spark=spark)
    assert [each.error for each in check_job(asked, opens_session=False) if each.error]


def another_model(path: Path) -> None:
    example = {"x": torch.zeros(4, 8)}
    Model.from_torch(Mlp().eval(), example, cuts=["trunk"], name="another").save(path)


def test_rows_that_stay_have_the_results_that_the_run_would_give_them(
    spark: SparkSession, folder: Path
) -> None:
    table = Delta(folder)
    table.insert(rows([1, 2]))
    run_score(night(folder, table, "a"), spark=spark)
    before = table.scored(folder)
    table.insert(rows([3]))
    asked = night(folder, table, "b")
    renamed = asked.model_copy(update={"outputs": {"label": "label"}})
    another_model(folder / "another")
    retrained = asked.model_copy(
        update={"model": asked.model.model_copy(update={"path": str(folder / "another")})}
    )
    for other in (retrained, renamed):
        with pytest.raises(
            DataError, match=r"results of another model.*nothing was written, run once"
        ):
            run_score(other, spark=spark)
        (error,) = [each.error for each in check_job(other, opens_session=False) if each.error]
        assert "results of another model" in str(error)
    assert table.scored(folder).equals(before)
    run_score(asked, spark=spark)
    assert table.scored(folder).equals(from_scratch(spark, folder, table))


def test_rows_that_are_only_added_may_have_the_model_of_their_day_and_the_log_says_so(
    spark: SparkSession, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = Delta(folder)
    table.insert(rows([1, 2]))
    output = {"mode": "append", "path": str(folder / "added")}
    there = {**table.conf, "changed_since": "last_run"}
    run_score(job(folder, folder, run={"id": "a"}, input=there, output=output), spark=spark)
    shutil.rmtree(folder / "model")
    another_model(folder / "model")
    table.insert(rows([3]))
    assert "results of another model" not in caplog.text
    run_score(job(folder, folder, run={"id": "b"}, input=there, output=output), spark=spark)
    assert "results of another model" in caplog.text
    assert published(folder / "added").num_rows == 3
