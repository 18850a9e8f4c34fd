"""A Delta table is read as of one version: types, values, partitions, deleted rows, other names; refusals; whole jobs."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import SparkSession

import kvspark
from kvspark.cli.app import run as command
from kvspark.config.table.input_table import InputConfig
from kvspark.errors import DataError, SchemaError, SecretError, UsageError
from kvspark.infer.model import Model
from kvspark.spark.jobs.job import run_score
from tests.object_server import S3Address
from tests.spark.conftest import features
from tests.spark.small_jobs import job, published, write_night
from tests.spark.sources.delta_logs import call_columns, delete_rows, rewrite
from tests.spark.sources.every_type import every_type
from tests.spark.sources.twins import bits, found, rows_of, source, upload, workers_reach

pytestmark = pytest.mark.spark

DELTA: dict[str, Any] = {"format": "delta"}
NOT_IN_DELTA = {
    "u8",
    "u16",
    "u32",
    "u64",
    "spell",
    "void",
    "nested",
    "map",
    "vector",
    "ms",
    "zone",
    "struct",
}


@pytest.fixture
def url(s3: S3Address, spark: SparkSession) -> Iterator[str]:
    with workers_reach(s3, spark) as url:
        yield f"{url}/t"


def rows(table: Path | str, spark: SparkSession, by: str = "id", **conf: Any) -> list[Any]:
    found = source(spark, table, **DELTA, **conf).df.orderBy(by).toArrow()
    return found.to_pylist()


def test_types_and_values_are_those_that_spark_reads_of_the_files(
    spark: SparkSession, tmp_path: Path
) -> None:
    kinds = every_type()
    table = kinds.select([name for name in kinds.column_names if name not in NOT_IN_DELTA])
    nested = pa.array([[{"a": 1, "b": ["x", None]}, None], [], None])
    entries = pa.array([[("a", 1)], [], None], pa.map_(pa.string(), pa.int64()))
    table = table.append_column("nested", nested).append_column("map", entries)
    (tmp_path / "t").mkdir()
    # The client keeps less of some types than the format has, and Spark writes them all.
    write_deltalake(tmp_path / "t", table, configuration={"delta.columnMapping.mode": "none"})
    (file,) = (tmp_path / "t").glob("*.parquet")
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / file.name).write_bytes(file.read_bytes())
    here, there = source(spark, tmp_path / "files"), source(spark, tmp_path / "t", **DELTA)
    assert there.df.schema == here.df.schema
    local, remote = rows_of(here, tmp_path / "files"), rows_of(there, tmp_path / "t")
    assert bits(remote) == bits(local)
    assert there.rows == 3


def test_partition_values_have_their_types_and_their_place(
    spark: SparkSession, tmp_path: Path
) -> None:
    table = pa.table(
        {
            "k": ["a/1 %é", "", None, "b"],
            "id": [1, 2, 3, 4],
            "d": [dt.date(2026, 1, 31), None, dt.date(1, 1, 1), dt.date(9999, 12, 31)],
            "n": pa.array([1, None, -3, 4], pa.int16()),
            "b": [True, False, None, True],
            "x": [1.5, 2.5, 3.5, None],
        }
    )
    write_deltalake(tmp_path / "t", table, partition_by=["k", "d", "n", "b"])
    expected = table.to_pylist()
    expected[1]["k"] = None  # as with every table of Spark
    assert rows(tmp_path / "t", spark) == expected
    there = source(spark, tmp_path / "t", **DELTA)
    assert there.df.schema.simpleString() == (
        "struct<k:string,id:bigint,d:date,n:smallint,b:boolean,x:double>"
    )
    chosen = rows(tmp_path / "t", spark, partitions={"d": "2026-01-31", "b": "true"})
    assert [row["id"] for row in chosen] == [1]
    assert [row["id"] for row in rows(tmp_path / "t", spark, partitions={"k": None})] == [2, 3]


def test_deleted_rows_are_not_read_and_others_keep_their_places(
    spark: SparkSession, tmp_path: Path
) -> None:
    write_deltalake(tmp_path, pa.table({"id": range(30_000)}))
    gone = [0, 1, 9_999, 10_000, 29_999]
    delete_rows(tmp_path, gone)
    there = source(spark, tmp_path, **DELTA)
    located = there.located().orderBy("id").toArrow()
    left = np.setdiff1d(np.arange(30_000), gone)
    assert located["id"].to_pylist() == located["_kvspark_row"].to_pylist() == left.tolist()
    assert there.rows == 30_000 - len(gone)


def test_nulls_of_deleted_rows_are_no_nulls(spark: SparkSession, tmp_path: Path) -> None:
    write_deltalake(tmp_path, pa.table({"id": [1, None, 3]}))
    with pytest.raises(DataError, match="column 'id': 1 null among 3 rows"):
        source(spark, tmp_path, columns=("id",), **DELTA)
    delete_rows(tmp_path, [1])
    assert source(spark, tmp_path, columns=("id",), **DELTA).rows == 2


def test_columns_that_are_called_otherwise_in_files_have_the_names_of_the_table(
    spark: SparkSession, tmp_path: Path
) -> None:
    table = pa.table({"c1": [1, 2], "c2": ["a", "b"], "c3": [{"x1": 1.5}, None], "c4": [["u"], []]})
    write_deltalake(tmp_path, table, partition_by=["c2"])
    names = {"c1": "id", "c2": "a key", "c3": "st", "x1": "x", "c4": "c1"}
    call_columns(tmp_path, names)
    assert rows(tmp_path, spark) == [
        {"id": 1, "a key": "a", "st": {"x": 1.5}, "c1": ["u"]},
        {"id": 2, "a key": "b", "st": None, "c1": []},
    ]
    assert source(spark, tmp_path, columns=("id", "c1"), **DELTA).rows == 2
    chosen = rows(tmp_path, spark, partitions={"a key": "b"}, filter="st is null")
    assert [row["id"] for row in chosen] == [2]


def test_a_version_or_a_time_names_what_was_there_then(spark: SparkSession, tmp_path: Path) -> None:
    write_deltalake(tmp_path, pa.table({"id": [1]}))
    between = dt.datetime.now(dt.timezone.utc)
    time.sleep(0.01)  # times of commits have milliseconds
    more = pa.table({"id": [2], "new": ["a"]})
    write_deltalake(tmp_path, more, mode="append", schema_mode="merge")
    assert rows(tmp_path, spark) == [{"id": 1, "new": None}, {"id": 2, "new": "a"}]
    assert rows(tmp_path, spark, version=0) == [{"id": 1}]
    assert rows(tmp_path, spark, timestamp=between.isoformat()) == [{"id": 1}]
    assert found(tmp_path, **DELTA).version == "version 1"
    said = r"no version of 2000.* the oldest one in its log, 0, is of 2.*nothing was written"
    with pytest.raises(DataError, match=said):
        found(tmp_path, **DELTA, timestamp="2000-01-01")


def test_a_version_that_is_not_there_is_told_beside_those_that_are(tmp_path: Path) -> None:
    for number in range(4):
        write_deltalake(tmp_path, pa.table({"id": [number]}), mode="append")
    for version in (7, 2**62):  # the client looks for each version before that
        with pytest.raises(DataError, match=rf"no version {version} \(there are 0 to 3\); nothing"):
            found(tmp_path, **DELTA, version=version)
    DeltaTable(str(tmp_path)).create_checkpoint()
    for version in range(3):
        (tmp_path / "_delta_log" / f"{version:020d}.json").unlink()
    with pytest.raises(
        DataError, match=r"no version 1 \(there are 3 to 3, older ones have left its"
    ):
        found(tmp_path, **DELTA, version=1)
    assert found(tmp_path, **DELTA, version=3).version == "version 3"
    with pytest.raises(DataError, match=r"the oldest one in its log, 3, is of 2.*nothing was"):
        found(tmp_path, **DELTA, timestamp="2000-01-01")


def test_what_others_commit_meanwhile_is_not_read(spark: SparkSession, tmp_path: Path) -> None:
    write_deltalake(tmp_path, pa.table({"id": [1]}))
    there = found(tmp_path, **DELTA)
    df = there.read(spark)
    write_deltalake(tmp_path, pa.table({"id": [2]}), mode="overwrite")
    assert [row.id for row in df.collect()] == [1]
    there.check_unchanged()
    DeltaTable(tmp_path).vacuum(0, dry_run=False, enforce_retention_duration=False)
    with pytest.raises(DataError, match=r"\.parquet changed while the run read it"):
        there.check_unchanged()
    with pytest.raises(DataError, match=r"is in the table and cannot be read.*nothing was written"):
        found(tmp_path, **DELTA, version=0)


def test_an_empty_table_has_its_columns(spark: SparkSession, tmp_path: Path) -> None:
    write_deltalake(
        tmp_path, pa.table({"id": pa.array([], pa.int64()), "k": pa.array([], pa.string())})
    )
    there = source(spark, tmp_path, columns=("id",), **DELTA)
    assert (there.rows, there.df.count(), there.df.columns) == (0, 0, ["id", "k"])


def features_of(action: dict[str, Any], name: str) -> None:
    if "protocol" in action:
        features = {"readerFeatures": [name], "writerFeatures": [name]}
        action["protocol"] = {"minReaderVersion": 3, "minWriterVersion": 7, **features}


@pytest.mark.parametrize("feature", ["typeWidening", "variantType"])
def test_a_feature_that_is_not_read_is_refused(tmp_path: Path, feature: str) -> None:
    write_deltalake(tmp_path, pa.table({"id": [1]}))
    rewrite(tmp_path, lambda action: features_of(action, feature))
    with pytest.raises(DataError, match=f"{feature}.*nothing was written"):
        found(tmp_path, **DELTA)


def test_what_cannot_be_told_for_certain_is_refused(tmp_path: Path) -> None:
    times = pa.table({"id": [1], "t": pa.array([0], pa.timestamp("us", "UTC"))})
    write_deltalake(tmp_path / "times", times, partition_by=["t"])
    with pytest.raises(
        DataError, match="partitioned by 't' of type timestamp, whose values cannot"
    ):
        found(tmp_path / "times", **DELTA)
    write_deltalake(tmp_path / "ids", pa.table({"id": [1]}))
    call_columns(tmp_path / "ids", {"id": "x"}, mode="id")
    with pytest.raises(
        DataError, match=r"^input path \S+: the table finds columns in its files by id"
    ):
        found(tmp_path / "ids", **DELTA)


def test_refused_credentials_are_one_line_without_them(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_deltalake(tmp_path, pa.table({"id": [1]}))
    upload(tmp_path, url)
    assert found(url, **DELTA).rows == 1
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    with pytest.raises(SecretError, match="403 Forbidden") as told:
        found(url, **DELTA)
    assert "not-the-secret" not in str(told.value)
    assert "\n" not in str(told.value)


def test_mistakes_are_said_in_one_line(tmp_path: Path) -> None:
    write_deltalake(tmp_path / "t", pa.table({"id": [1], "k": ["a"]}), partition_by=["k"])
    pq.write_table(pa.table({"id": [1]}), tmp_path / "1.parquet")
    with pytest.raises(SchemaError, match=r"no column 'x'; the table has id, k.*\(table: "):
        found(tmp_path / "t", columns=("x",), **DELTA)
    with pytest.raises(SchemaError, match=r"not partitioned \(partitioned by: k\)"):
        found(tmp_path / "t", partitions={"id": "1"}, **DELTA)
    with pytest.raises(DataError, match=r"^input path \S+ is no Delta table"):
        found(tmp_path, **DELTA)
    with pytest.raises(DataError, match=r"set input\.format: delta and name"):
        found(tmp_path / "t")
    with pytest.raises(UsageError, match=r"has a # in it"):
        found(tmp_path / "a#b", **DELTA)


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({"format": "delta", "merge_schema": True}, "input.merge_schema is of parquet"),
        ({"version": 1}, "input.version is of delta, and input.format is parquet"),
        ({"format": "delta", "version": 1, "timestamp": "2026-01-31"}, "name two versions"),
        ({"format": "delta", "timestamp": "yesterday"}, "is no time"),
        ({"format": "delta", "paths": ["/a", "/b"]}, "names 2 tables"),
        ({"format": "delta", "filter": "input_file_name() > ''"}, "which is empty where"),
    ],
)
def test_settings_that_do_not_fit_are_refused(conf: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        InputConfig.checked(**{"paths": ["/a"], **conf})


@pytest.fixture
def folder(tmp_path: Path, mlp: Model) -> Path:
    mlp.save(tmp_path / "model")
    return tmp_path


def night(seed: int = 3) -> pa.Table:
    return pa.table({"id": np.arange(200), "x": list(features(200, seed=seed))})


def test_a_job_publishes_the_rows_of_the_same_parquet_from_a_disk_and_from_s3(
    spark: SparkSession, folder: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run_score(job(folder, write_night(folder / "night")), spark=spark)
    expected = published(folder / "out")
    write_deltalake(folder / "t", night(seed=9))
    write_deltalake(folder / "t", night(), mode="overwrite", target_file_size=4_000)
    for path in (str(folder / "t"), upload(folder / "t", url)):
        config = job(folder, folder, input={"paths": [path], **DELTA})
        report = run_score(config, spark=spark)
        assert published(folder / "out").equals(expected)
        assert (report.rows_in, report.input_version) == (200, "version 1")
        assert not report.input_names
    (folder / "job.yaml").write_text(config.model_dump_json(exclude_unset=True))
    assert command(["check", str(folder / "job.yaml")]) == 0
    assert "with 200 rows (version 1)" in capsys.readouterr().out


def test_a_bad_row_is_named_by_its_place_in_the_file_although_rows_before_it_are_deleted(
    spark: SparkSession, folder: Path
) -> None:
    x = pa.array([None if n == 150 else [1.0] * 8 for n in range(200)], pa.list_(pa.float32()))
    write_deltalake(folder / "t", pa.table({"id": np.arange(200), "x": x}))
    delete_rows(folder / "t", [3, 5])
    conf = {"paths": [str(folder / "t")], **DELTA, "on_bad_row": "quarantine"}
    report = run_score(job(folder, folder, input=conf), spark=spark)
    assert (report.rows_in, report.rows_out, report.rows_quarantined) == (198, 197, 1)
    (row,) = kvspark.read(folder / "out", quarantine=True).to_table().to_pylist()
    (file,) = (folder / "t").glob("*.parquet")
    assert (row["file"], row["row"]) == (str(file), 150)


def test_what_kvspark_publishes_as_delta_is_read(spark: SparkSession, folder: Path) -> None:
    output = {"format": "delta", "path": str(folder / "scores")}
    run_score(job(folder, write_night(folder / "night"), output=output), spark=spark)
    there = source(spark, folder / "scores", **DELTA)
    assert there.rows == there.df.count() == 200
    assert [row.id for row in there.df.orderBy("id").collect()] == list(range(200))
