"""Jobs whose input is in an object store or in HDFS: their outputs, bad rows and reports, and what goes wrong on the way."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

import kvspark
from kvspark.cli.app import run as command
from kvspark.errors import DataError, KvsparkError, RowError, SecretError
from kvspark.infer.model import Model
from kvspark.spark.badrows.run_bad_rows import bad_rows_of
from kvspark.spark.jobs import run_rows
from kvspark.spark.jobs.job import run_score
from kvspark.table.objects.storage import Storage
from kvspark.table.place.opening import open_objects
from tests.object_proxy import object_proxy, say
from tests.object_server import S3Address
from tests.spark.small_jobs import job, published, write_night
from tests.spark.sources.twins import found, remote_folder, upload, workers_reach

pytestmark = pytest.mark.spark

# Parquet has times without a zone.
TIMES = [dt.datetime(1, 1, 1), dt.datetime(2262, 4, 12), dt.datetime(9999, 12, 31), None]  # noqa: DTZ001
DAY = dt.datetime(2026, 1, 1, 5)  # noqa: DTZ001
ROWS = {"id": [1, 2, 3], "text": ["a", "b", "c"]}


@pytest.fixture(params=["s3", "hdfs"])
def url(request: pytest.FixtureRequest, spark: SparkSession) -> Iterator[str]:
    with remote_folder(request.param, request, spark) as url:
        yield url


@pytest.fixture
def s3_url(s3: S3Address, spark: SparkSession) -> Iterator[str]:
    with workers_reach(s3, spark) as url:
        yield url


@pytest.fixture
def folder(tmp_path: Path, mlp: Model) -> Path:
    mlp.save(tmp_path / "model")
    return tmp_path


def test_a_job_publishes_the_rows_of_a_local_input(
    spark: SparkSession, folder: Path, url: str
) -> None:
    night = write_night(folder / "night", files=3)
    inputs = {"inputs": {"x": {"expr": "transform(x, v -> v * float(2))"}}}
    run_score(job(folder, night, **inputs), spark=spark)
    local = published(folder / "out")
    config = job(folder, night, input={"paths": [upload(night, url)]}, **inputs)
    report = run_score(config, spark=spark)
    assert published(folder / "out").equals(local)
    assert (report.rows_in, report.rows_out, report.input_files) == (200, 200, 3)
    assert list(report.inputs) == [url]
    assert report.input_names == tuple(f"{url}/{number}.parquet" for number in range(3))
    assert report.input_version is None
    assert run_score(config, spark=spark).input_digest == report.input_digest


def test_a_bad_row_is_named_by_its_object_and_its_place(
    spark: SparkSession, folder: Path, url: str
) -> None:
    night = write_night(folder / "night", files=1)
    x = pa.array([[1.0] * 8, [float(n) for n in range(7)]], pa.list_(pa.float32()))
    pq.write_table(pa.table({"id": [1000, 1001], "x": x}), night / "bad.parquet")
    there = {"paths": [upload(night, url)]}
    with pytest.raises(RowError, match=rf"^{url}/bad\.parquet row 1: "):
        run_score(job(folder, night, input=there), spark=spark)
    config = job(folder, night, input={**there, "on_bad_row": "quarantine"})
    report = run_score(config, spark=spark)
    assert (report.rows_out, report.rows_quarantined) == (201, 1)
    (row,) = kvspark.read(folder / "out", quarantine=True).to_table().to_pylist()
    assert (row["file"], row["row"]) == (f"{url}/bad.parquet", 1)


def test_the_other_commands_read_it_too(
    spark: SparkSession, folder: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = job(folder, upload(write_night(folder / "night"), url))  # type: ignore[arg-type]
    (folder / "job.yaml").write_text(config.model_dump_json(exclude_unset=True))
    assert command(["check", str(folder / "job.yaml")]) == 0
    assert "2 files with 200 rows" in capsys.readouterr().out


def test_what_kvspark_has_published_is_read_as_its_pointer_says_it(
    spark: SparkSession, folder: Path, url: str
) -> None:
    first, second = (write_night(folder / name, seed=n) for n, name in enumerate(["one", "two"]))
    for night, run_id in ((first, "one"), (second, "two")):
        pq.write_table(
            pq.read_table(night / "0.parquet").append_column("k", pa.array(["a", "b"] * 50)),
            night / "0.parquet",
        )
        (night / "1.parquet").unlink()
        output = {"path": url, "partition_by": "k"}
        run_score(job(folder, night, run={"id": run_id}, output=output), spark=spark)
    there = found(url)
    assert there.version == "run two"
    read = there.read(spark)
    assert sorted(row.id for row in read.select("id").collect()) == list(range(100))
    expected = kvspark.read(url).to_table().sort_by("id")
    assert read.orderBy("id").toArrow().equals(expected.cast(read.toArrow().schema))
    # A run that is published meanwhile is not what was found.
    run_score(job(folder, first, run={"id": "three"}, output=output), spark=spark)
    assert read.orderBy("id").toArrow().equals(expected.cast(read.toArrow().schema))


def test_an_object_that_is_written_while_a_run_reads_is_an_error(
    spark: SparkSession, folder: Path, url: str
) -> None:
    upload(write_night(folder / "night"), url)
    there = found(url)
    df = there.read(spark)
    there.check_unchanged()
    upload(write_night(folder / "other", seed=9), url)
    with pytest.raises(DataError, match=r"\d\.parquet changed while the run read it"):
        there.check_unchanged()
    with pytest.raises(Exception, match=r"was written (or removed )?after the run had found it"):
        df.collect()


def test_credentials_that_expire_while_workers_read_publish_nothing_and_the_next_run_is_right(
    spark: SparkSession, folder: Path, s3_url: str, s3: S3Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    night = write_night(folder / "night")
    upload(night, s3_url)
    run_score(job(folder, night), spark=spark)
    before = published(folder / "out")
    with object_proxy(s3.endpoint) as proxy:
        config = job(
            folder, night, input={"paths": [s3_url], "storage": {"endpoint": proxy.endpoint}}
        )

        def expired(*args: Any) -> Any:
            proxy.turn_on(say(403, "ExpiredToken"), lambda method, path: ".parquet" in path)
            return bad_rows_of(*args)

        # What comes before the rows are scored: listing, footers, the first rows.
        monkeypatch.setattr(run_rows, "bad_rows_of", expired)
        with pytest.raises(
            SecretError, match=r"refuses these credentials .*; nothing was published$"
        ):
            run_score(config, spark=spark)
        assert proxy.fired
        assert published(folder / "out").equals(before)
        proxy.turn_off()
        monkeypatch.undo()
        run_score(config, spark=spark)
    assert published(folder / "out").equals(before)


def test_refused_credentials_are_one_line_without_them(
    folder: Path, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(write_night(folder / "night"), s3_url)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    there = {"paths": [f"{s3_url}/./"], "storage": {"region": "eu"}}
    config = job(folder, folder / "night", input=there)
    with pytest.raises(KvsparkError, match="refuses these credentials") as told:
        run_score(config)
    assert isinstance(told.value, SecretError)
    assert "not-the-secret" not in str(told.value)
    assert "\n" not in str(told.value)


def test_a_file_that_is_not_there_and_an_empty_folder_say_so(url: str) -> None:
    with pytest.raises(DataError, match="does not exist"):
        found(url)
    open_objects(Storage(url)).put("_SUCCESS", b"")
    with pytest.raises(DataError, match="holds no Parquet file with content"):
        found(url)
