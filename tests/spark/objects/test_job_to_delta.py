"""A whole job whose output is a Delta table: the rows of a folder of files, by other readers, on POSIX and in S3."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

import kvspark
from kvspark.config.job import JobConfig
from kvspark.errors import OutputError, UsageError
from kvspark.infer.model import Model
from kvspark.spark.check.check import check_job
from kvspark.spark.jobs.job import run_score
from kvspark.spark.jobs.rollback import run_rollback, versions_of
from kvspark.spark.publishing.open_publisher import publisher_of
from kvspark.table.delta.delta_publisher import DeltaPublisher
from kvspark.table.objects.object_store import ObjectStore
from kvspark.table.objects.storage import Storage
from tests.object_server import S3Address
from tests.spark.small_jobs import job, published, write_night

pytestmark = pytest.mark.spark


@pytest.fixture
def folder(tmp_path: Path, mlp: Model) -> Path:
    mlp.save(tmp_path / "model")
    return tmp_path


@pytest.fixture(params=["posix", "s3"])
def url(request: pytest.FixtureRequest, spark: SparkSession, tmp_path: Path) -> Iterator[str]:
    """A new table, which workers reach as well: the session may be older than the server."""
    if request.param == "posix":
        yield str(tmp_path / "table")
        return
    server: S3Address = request.getfixturevalue("s3")
    environment = spark.sparkContext.environment
    environment.update(server.environment)
    yield f"{server.url}/{secrets.token_hex(4)}/table"
    for name in server.environment:
        environment.pop(name)


def read(url: str) -> pa.Table:
    """What delta-rs finds."""
    return pa.table(DeltaTable(url).to_pyarrow_table()).sort_by("id")


def test_three_nights_have_the_rows_of_a_folder_bit_for_bit(
    spark: SparkSession, folder: Path, url: str
) -> None:
    for number in range(3):
        night = write_night(folder / f"night{number}", seed=number)
        run_score(job(folder, night), spark=spark)
        report = run_score(job(folder, night, output={"path": url, "format": "delta"}), spark=spark)
        assert (report.output, report.rows_out) == (url, 200)
        found, local = read(url), published(folder / "out")
        assert found.column_names == local.column_names
        assert found.cast(local.schema).equals(local)
        sums = duckdb.execute("SELECT count(*), sum(scores[1]) FROM found").fetchall()
        assert sums == duckdb.execute("SELECT count(*), sum(scores[1]) FROM local").fetchall()


def test_a_run_replaces_the_partitions_that_it_has_rows_of(
    spark: SparkSession, folder: Path, url: str
) -> None:
    night = kinds(write_night(folder / "night"))
    output = {"path": url, "format": "delta", "partition_by": "kind"}
    run_score(job(folder, night, output=output), spark=spark)
    before = files_of(url)
    only = {"filter": "kind = 'k1' AND id < 100"}
    again = {**output, "mode": "replace_partitions"}
    run_score(job(folder, night, run={"id": "again"}, input=only, output=again), spark=spark)
    found = read(url).to_pydict()
    kept = [i for i in range(200) if i % 10 != 1 or i < 100]
    assert found["id"] == kept
    others = {name: kind for name, kind in before.items() if kind != "k1"}
    assert len(others) < len(before)
    assert {name: kind for name, kind in files_of(url).items() if kind != "k1"} == others


def test_nights_are_added_once_each_and_taken_away_again(
    spark: SparkSession, folder: Path, url: str
) -> None:
    output = {"path": url, "format": "delta", "mode": "append", "partition_by": "kind"}

    def night(run_id: str, only: str) -> JobConfig:
        return job(folder, rows, run={"id": run_id}, input={"filter": only}, output=output)

    rows = kinds(write_night(folder / "night"))
    run_score(night("first", "id < 100"), spark=spark)
    run_score(night("second", "id >= 150"), spark=spark)
    report = run_score(night("second", "id >= 100"), spark=spark)
    assert (report.rows_out, read(url)["id"].to_pylist()) == (100, [*range(200)])
    run_score(night("first", "id < 50"), spark=spark)
    assert read(url)["id"].to_pylist() == [*range(50), *range(100, 200)]
    assert "first: 150 rows" in versions_of(night("first", "id < 50"))[0]
    run_rollback(night("first", "id < 50"))
    assert read(url)["id"].to_pylist() == [*range(200)]
    # Somebody puts all rows into files of his own, and no run knows its rows again.
    DeltaTable(url).optimize.compact()
    again = night("second", "id >= 100")
    with pytest.raises(OutputError, match="another program has rewritten or removed files") as told:
        run_score(again)
    faults = [each.error for each in check_job(again) if each.error is not None]
    assert [str(each) for each in faults] == [str(told.value)]


def test_a_table_goes_back_to_the_night_before(
    spark: SparkSession, folder: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, run_id in enumerate(("first", "second")):
        night = write_night(folder / run_id, seed=number)
        config = job(folder, night, run={"id": run_id}, output={"path": url, "format": "delta"})
        run_score(config, spark=spark)
        if number == 0:
            before = read(url)
    assert "second: 200 rows" in versions_of(config)[0]
    assert f"{url} is the output of first again" in run_rollback(config)
    assert read(url).equals(before)


def test_a_quarantine_stays_with_its_night_and_is_no_row(
    spark: SparkSession, folder: Path, url: str
) -> None:
    night = write_night(folder / "night")
    bad = pa.table({"id": [1000, 1001], "x": pa.array([None, [1.0] * 8], pa.list_(pa.float32()))})
    pq.write_table(bad, night / "bad.parquet")
    asked = {"on_bad_row": "quarantine", "id": "id"}
    output = {"path": url, "format": "delta"}
    config = job(folder, night, input=asked, output=output)
    report = run_score(config, spark=spark)
    assert (report.rows_out, report.rows_quarantined) == (201, 1)
    assert (read(url).num_rows, quarantined(config)) == (201, [1000])
    (night / "bad.parquet").unlink()
    run_score(job(folder, night, run={"id": "good"}, input=asked, output=output), spark=spark)
    assert (read(url).num_rows, quarantined(config)) == (200, [])


def quarantined(config: JobConfig) -> list[int]:
    """The rows that lie beside the current ones."""
    publisher = publisher_of(config)
    assert isinstance(publisher, DeltaPublisher)
    current = publisher.current()
    assert current is not None
    place = f"_kvspark/runs/{current.attempt}/quarantine"
    if "://" in publisher.url:
        names = [each.name for each in ObjectStore(Storage(publisher.url)).listed(place)]
    else:
        names = [str(each) for each in Path(publisher.url, place).iterdir()]
    notes = [publisher.note(current, f"_kvspark/quarantine/{Path(name).name}") for name in names]
    tables = [pq.read_table(pa.BufferReader(note)) for note in notes if note is not None]
    found: list[int] = pa.concat_tables(tables)["id"].to_pylist()
    return found


def test_a_night_without_rows_and_one_with_bad_rows(
    spark: SparkSession, folder: Path, url: str
) -> None:
    night = kinds(write_night(folder / "night"))
    output = {"path": url, "format": "delta", "partition_by": "kind"}
    run_score(job(folder, night, output=output), spark=spark)
    none = {"filter": "id < 0"}
    run_score(job(folder, night, input=none, output=output), spark=spark)
    empty = read(url)
    assert (empty.num_rows, set(empty.column_names)) == (0, {"id", "x", "kind", "scores", "label"})
    bad = pa.table({"id": [1000], "x": pa.array([None], pa.list_(pa.float32())), "kind": ["k1"]})
    pq.write_table(bad, night / "bad.parquet")
    config = job(folder, night, input={"on_bad_row": "quarantine", "id": "id"}, output=output)
    report = run_score(config, spark=spark)
    assert (report.rows_out, report.rows_quarantined) == (200, 1)
    assert read(url).num_rows == 200


def test_what_a_delta_table_cannot_be_is_said_before_anything_is_computed(folder: Path) -> None:
    night = write_night(folder / "night")
    output = {"path": str(folder / "table"), "format": "delta"}
    with pytest.raises(UsageError, match="overlap"):
        run_score(job(folder, night, output={**output, "path": str(night / "table")}))
    (folder / "table").mkdir()
    pq.write_table(pa.table({"a": [1]}), folder / "table" / "mine.parquet")
    with pytest.raises(OutputError, match="has files and is no Delta table"):
        run_score(job(folder, night, output=output))


def test_a_folder_of_files_replaces_partitions_and_touches_no_other_file(
    spark: SparkSession, folder: Path
) -> None:
    night = kinds(write_night(folder / "night"))
    output = {"partition_by": "kind"}
    run_score(job(folder, night, run={"id": "first"}, output=output), spark=spark)
    before = inodes(folder / "out")
    again = {**output, "mode": "replace_partitions"}
    for _ in range(2):  # a night that is repeated is there once
        only = {"filter": "kind = 'k1' AND id < 100"}
        run_score(job(folder, night, run={"id": "again"}, input=only, output=again), spark=spark)
        kept = [i for i in range(200) if i % 10 != 1 or i < 100]
        assert sorted(kvspark.read(folder / "out").to_table()["id"].to_pylist()) == kept
        after = inodes(folder / "out")
        others = {name: inode for name, inode in before.items() if "kind=k1" not in name}
        assert {n: inode for n, inode in after.items() if "kind=k1" not in n} == others
    (folder / "out" / "_delta_log").mkdir()
    with pytest.raises(OutputError, match="Delta table"):
        kvspark.read(folder / "out")


def test_partitions_are_replaced_only_where_there_are_some(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"partition_by names no column"):
        job(folder, folder / "night", output={"mode": "replace_partitions"})


def kinds(night: Path) -> Path:
    """`night` with a column of ten values."""
    for path in night.iterdir():
        table = pq.read_table(path)
        values = pa.array([f"k{i % 10}" for i in table["id"].to_pylist()])
        pq.write_table(table.append_column("kind", values), path)
    return night


def files_of(url: str) -> dict[str, str]:
    """The files of a table, each with its value of `kind`."""
    actions = pa.table(DeltaTable(url).get_add_actions(flatten=True)).to_pydict()
    return dict(zip(actions["path"], actions["partition.kind"], strict=True))


def inodes(folder: Path) -> dict[str, int]:
    """The files of rows below `folder`, each with its inode."""
    return {
        os.fspath(path.relative_to(folder)): path.stat().st_ino
        for path in folder.rglob("part-*.parquet")
        if "_kvspark" not in path.parts
    }
