"""A whole job whose output is an Iceberg table: the rows of a folder of files, on POSIX and in S3."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog import load_catalog
from pyspark.sql import SparkSession

from kvspark.config.job import JobConfig
from kvspark.errors import OutputError, UsageError
from kvspark.infer.model import Model
from kvspark.spark.check.check import check_job
from kvspark.spark.jobs.job import run_score
from kvspark.spark.jobs.rollback import run_rollback, versions_of
from tests.object_server import S3Address
from tests.spark.small_jobs import job, published, write_night

pytestmark = pytest.mark.spark

TABLE = "iceberg:local/bank.scores"


@pytest.fixture
def folder(tmp_path: Path, mlp: Model) -> Path:
    mlp.save(tmp_path / "model")
    return tmp_path


@pytest.fixture(params=["posix", "s3"])
def catalog(
    request: pytest.FixtureRequest, spark: SparkSession, tmp_path: Path
) -> Iterator[dict[str, str]]:
    """A new catalog, whose warehouse workers reach as well: the session may be older than the server."""
    properties = {"type": "sql", "uri": f"sqlite:///{tmp_path / 'catalog.db'}"}
    if request.param == "posix":
        yield {**properties, "warehouse": f"file://{tmp_path / 'warehouse'}"}
        return
    server: S3Address = request.getfixturevalue("s3")
    environment = spark.sparkContext.environment
    environment.update(server.environment)
    where = {"warehouse": f"{server.url}/{secrets.token_hex(4)}", "s3.endpoint": server.endpoint}
    yield {**properties, **where}
    for name in server.environment:
        environment.pop(name)


def output(catalog: dict[str, str], **more: Any) -> dict[str, Any]:
    return {"format": "iceberg", "path": TABLE, "catalog": catalog, **more}


def read(catalog: dict[str, str]) -> pa.Table:
    """What pyiceberg finds."""
    return (
        load_catalog("local", **catalog).load_table("bank.scores").scan().to_arrow().sort_by("id")
    )


def test_three_nights_have_the_rows_of_a_folder_bit_for_bit(
    spark: SparkSession, folder: Path, catalog: dict[str, str]
) -> None:
    for number in range(3):
        night = write_night(folder / f"night{number}", seed=number)
        run_score(job(folder, night), spark=spark)
        report = run_score(job(folder, night, output=output(catalog)), spark=spark)
        assert (report.output, report.rows_out) == (TABLE, 200)
        found, local = read(catalog), published(folder / "out")
        assert found.column_names == local.column_names
        assert found.cast(local.schema).equals(local)
        sums = duckdb.execute("SELECT count(*), sum(scores[1]) FROM found").fetchall()
        assert sums == duckdb.execute("SELECT count(*), sum(scores[1]) FROM local").fetchall()


def test_partitions_are_replaced_and_a_table_goes_back(
    spark: SparkSession, folder: Path, catalog: dict[str, str]
) -> None:
    night = kinds(write_night(folder / "night"))
    whole = output(catalog, partition_by="kind")
    run_score(job(folder, night, run={"id": "first"}, output=whole), spark=spark)
    before = read(catalog)
    only = {"filter": "kind = 'k1' AND id < 100"}
    again = job(
        folder,
        night,
        run={"id": "again"},
        input=only,
        output={**whole, "mode": "replace_partitions"},
    )
    run_score(again, spark=spark)
    kept = [i for i in range(200) if i % 10 != 1 or i < 100]
    assert read(catalog)["id"].to_pylist() == kept
    assert "again: 190 rows" in versions_of(again)[0]
    assert "is the output of first again" in run_rollback(again)
    assert read(catalog).equals(before)


def test_nights_are_added_once_each_and_taken_away_again(
    spark: SparkSession, folder: Path, catalog: dict[str, str]
) -> None:
    rows = kinds(write_night(folder / "night"))

    def night(run_id: str, only: str) -> JobConfig:
        to = output(catalog, mode="append", partition_by="kind")
        return job(folder, rows, run={"id": run_id}, input={"filter": only}, output=to)

    run_score(night("first", "id < 100"), spark=spark)
    run_score(night("second", "id >= 150"), spark=spark)
    report = run_score(night("second", "id >= 100"), spark=spark)
    assert (report.rows_out, read(catalog)["id"].to_pylist()) == (100, [*range(200)])
    run_score(night("first", "id < 50"), spark=spark)
    assert read(catalog)["id"].to_pylist() == [*range(50), *range(100, 200)]
    assert "first: 150 rows" in versions_of(night("first", "id < 50"))[0]
    run_rollback(night("first", "id < 50"))
    assert read(catalog)["id"].to_pylist() == [*range(200)]
    # Somebody puts all rows into files of his own, and no run knows its rows again.
    table = load_catalog("local", **catalog).load_table("bank.scores")
    table.overwrite(table.scan().to_arrow())
    again = night("second", "id >= 100")
    with pytest.raises(OutputError, match="another program has rewritten or removed files") as told:
        run_score(again)
    faults = [each.error for each in check_job(again) if each.error is not None]
    assert [str(each) for each in faults] == [str(told.value)]


def test_a_night_without_rows_and_one_with_bad_rows(
    spark: SparkSession, folder: Path, catalog: dict[str, str]
) -> None:
    night = kinds(write_night(folder / "night"))
    to = output(catalog, partition_by="kind")
    run_score(job(folder, night, output=to), spark=spark)
    none = {"filter": "id < 0"}
    run_score(job(folder, night, input=none, output=to), spark=spark)
    empty = read(catalog)
    assert (empty.num_rows, set(empty.column_names)) == (0, {"id", "x", "kind", "scores", "label"})
    bad = pa.table({"id": [1000], "x": pa.array([None], pa.list_(pa.float32())), "kind": ["k1"]})
    pq.write_table(bad, night / "bad.parquet")
    config = job(folder, night, input={"on_bad_row": "quarantine", "id": "id"}, output=to)
    report = run_score(config, spark=spark)
    assert (report.rows_out, report.rows_quarantined) == (200, 1)
    assert read(catalog).num_rows == 200


def test_what_an_iceberg_table_cannot_be_is_said_before_anything_is_computed(
    folder: Path, catalog: dict[str, str]
) -> None:
    night = write_night(folder / "night")
    with pytest.raises(UsageError, match="names no Iceberg table"):
        run_score(job(folder, night, output=output(catalog, path="iceberg:local/scores")))
    with pytest.raises(UsageError, match=r"an Iceberg table has format: iceberg and a path"):
        job(folder, night, output=output(catalog, path="scores"))
    rows = pa.table({"a": [1]})
    own = load_catalog("local", **catalog)
    own.create_namespace("bank")
    own.create_table("bank.scores", schema=rows.schema).append(rows)
    with pytest.raises(OutputError, match="has rows that no run wrote"):
        run_score(job(folder, night, output=output(catalog)))


def kinds(night: Path) -> Path:
    """`night` with a column of ten values."""
    for path in night.iterdir():
        table = pq.read_table(path)
        values = pa.array([f"k{i % 10}" for i in table["id"].to_pylist()])
        pq.write_table(table.append_column("kind", values), path)
    return night
