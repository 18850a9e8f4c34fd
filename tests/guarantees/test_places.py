"""Wherever rows come from and go to: the values of a run from folder to folder, and results that all of them share.

same values     of the outputs and of all columns that pass through
found           what was computed of rows from a folder is found for the same rows from anywhere
quarantine      a bad row is left out, and named by `input.id`
pinned          the report says what was read: files, or the version of a table
read by workers where nothing is between, the workers that score and write read as well, and the values are the same

Each kind of source is tried with one target and each target with one source, not all with all: rows leave a source as a
DataFrame, or as Arrow batches, and reach a target as these, and neither knows of the other.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from deltalake import DeltaTable, write_deltalake
from pyiceberg.catalog import load_catalog
from pyspark.sql import SparkSession

import kvspark
from kvspark.config.table.file_formats import Format
from kvspark.infer.model import Model
from kvspark.spark.jobs.job import run_score
from tests.object_server import S3Address
from tests.redis_server import PATIENT_MS, RedisAddress, running_redis
from tests.small_models import Mlp, seeded
from tests.spark.conftest import features
from tests.spark.small_jobs import job
from tests.spark.sources.iceberg_tables import Lake
from tests.spark.sources.nights import ROWS, config, empty_is_null, inputs, night, write
from tests.spark.sources.twins import upload, workers_reach

pytestmark = [pytest.mark.spark, pytest.mark.redis]

BAD = 3
"""The row that has no value for one of the model's columns, where there is a bad one."""


@final
@dataclass(frozen=True)
class Places:
    """Where the rows of a test may lie."""

    folder: Path
    objects: str
    """A URL in an object store."""
    hdfs: str


Source = Callable[[Places, pa.Table], dict[str, Any]]
"""Puts rows somewhere, and says the `input` of a conf."""


def files(format_: Format) -> Source:
    def made(places: Places, rows: pa.Table) -> dict[str, Any]:
        return inputs(write(rows, places.folder / "rows", format_), format_)

    return made


def objects(places: Places, rows: pa.Table) -> dict[str, Any]:
    folder = write(rows, places.folder / "rows", "parquet")
    return {"paths": [upload(folder, f"{places.objects}/rows")]}


def hdfs(places: Places, rows: pa.Table) -> dict[str, Any]:
    return {
        "paths": [upload(write(rows, places.folder / "rows", "parquet"), f"{places.hdfs}/rows")]
    }


def delta(places: Places, rows: pa.Table) -> dict[str, Any]:
    write_deltalake(str(places.folder / "rows"), rows)
    return {"paths": [str(places.folder / "rows")], "format": "delta"}


def iceberg(places: Places, rows: pa.Table) -> dict[str, Any]:
    (places.folder / "lake").mkdir()
    lake = Lake(places.folder / "lake")
    lake.table(rows)
    return lake.conf


def query(places: Places, rows: pa.Table) -> dict[str, Any]:
    folder = write(rows, places.folder / "rows", "parquet")
    return {"sql": f"SELECT * FROM parquet.`{folder}`"}


SOURCES: dict[str, Source] = {
    "parquet": files("parquet"),
    "objects": objects,
    "hdfs": hdfs,
    "delta": delta,
    "iceberg": iceberg,
    "csv": files("csv"),
    "json": files("json"),
    "orc": files("orc"),
    "sql": query,
}
TARGETS = ("folder", "objects", "hdfs", "delta", "iceberg")
PAIRS = [(source, TARGETS[n % len(TARGETS)]) for n, source in enumerate(SOURCES)]


def output(places: Places, target: str) -> dict[str, Any]:
    """The `output` of a conf."""
    if target in {"objects", "hdfs"}:
        return {"path": f"{getattr(places, target)}/scored"}
    if target == "iceberg":
        catalog = {
            "type": "sql",
            "uri": f"sqlite:///{places.folder}/out.db",
            "warehouse": str(places.folder / "warehouse"),
        }
        return {"format": "iceberg", "path": "iceberg:out/ns.t", "catalog": catalog}
    kind = {"format": "delta"} if target == "delta" else {}
    return {"path": str(places.folder / "scored"), **kind}


def rows_of(asked: dict[str, Any]) -> pa.Table:
    """What a reader of that output finds."""
    if asked.get("format") == "iceberg":
        found = load_catalog("out", **asked["catalog"]).load_table("ns.t").scan().to_arrow()
    elif asked.get("format") == "delta":
        found = pa.table(DeltaTable(asked["path"]).to_pyarrow_table())
    else:
        found = kvspark.read(asked["path"]).to_table()
    return found.sort_by("id")


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisAddress]:
    with running_redis() as server:
        yield server


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.from_torch(seeded(Mlp()), {"x": torch.zeros(4, 8)}, cuts=["trunk"], name="mlp")


@pytest.fixture
def places(
    spark: SparkSession, tmp_path: Path, model: Model, request: pytest.FixtureRequest
) -> Iterator[Places]:
    model.save(tmp_path / "model")
    server: S3Address = request.getfixturevalue("s3")
    with workers_reach(server, spark) as url:
        hdfs = request.getfixturevalue("hdfs").url
        yield Places(tmp_path, url, f"{hdfs}/{secrets.token_hex(4)}")


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_rows_from_anywhere_to_anywhere_are_those_of_a_folder(
    spark: SparkSession, places: Places, redis: RedisAddress, source: str, target: str
) -> None:
    rows = empty_is_null(night())
    cache = {"url": redis.url, "namespace": "places", "timeout_ms": PATIENT_MS}
    plain = files("parquet")(Places(places.folder / "plain", "", ""), rows)
    run_score(config(places.folder, plain, cache=cache), spark=spark)
    expected = pq.read_table(places.folder / "out").sort_by("id")
    asked, to = SOURCES[source](places, rows), output(places, target)
    report = run_score(config(places.folder, asked, cache=cache, output=to), spark=spark)
    found = rows_of(to)
    assert found.column_names == expected.column_names
    assert found.cast(expected.schema).equals(expected)
    assert report.stats.stages["output"].hits == ROWS
    assert report.stats.degraded == frozenset()
    assert report.input_digest or report.input_version


BY_WORKERS = ("parquet", "objects", "hdfs", "delta", "iceberg")


def add_rows(source: str, asked: dict[str, Any], rows: pa.Table) -> None:
    """Adds `rows` to a table, as a file of its own."""
    if source == "delta":
        write_deltalake(asked["paths"][0], rows, mode="append")
    elif source == "iceberg":
        load_catalog("lake", **asked["catalog"]).load_table("ns.t").append(rows)


@pytest.mark.parametrize(("source", "target"), [pair for pair in PAIRS if pair[0] in BY_WORKERS])
def test_workers_read_what_they_score_from_anywhere(
    spark: SparkSession, places: Places, model: Model, source: str, target: str
) -> None:
    x = features(ROWS, seed=5)
    rows = pa.table({"id": range(ROWS), "x": list(x)})
    is_table = source in {"delta", "iceberg"}
    asked = SOURCES[source](places, rows.slice(0, 40) if is_table else rows)
    add_rows(source, asked, rows.slice(40))
    to = output(places, target)
    report = run_score(job(places.folder, places.folder, input=asked, output=to), spark=spark)
    assert (report.reader, report.rows_out) == ("workers", ROWS)
    found = rows_of(to)
    expected = model.predict({"x": x}, threads=1)
    assert found["id"].to_pylist() == list(range(ROWS))
    assert found["x"].to_pylist() == rows["x"].to_pylist()
    for name, values in expected.items():
        assert found[name].to_pylist() == values.tolist()


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_a_bad_row_from_anywhere_is_left_out_and_named(
    spark: SparkSession, places: Places, source: str, target: str
) -> None:
    rows = empty_is_null(night())
    gone = [None if row == BAD else value for row, value in enumerate(rows["x2"].to_pylist())]
    rows = rows.set_column(4, "x2", pa.array(gone, pa.float32()))
    asked = {**SOURCES[source](places, rows), "on_bad_row": "quarantine", "id": "id"}
    to = output(places, target)
    report = run_score(config(places.folder, asked, output=to), spark=spark)
    assert (report.rows_in, report.rows_out, report.rows_quarantined) == (ROWS, ROWS - 1, 1)
    assert BAD not in rows_of(to)["id"].to_pylist()
