"""`run_score`: rows in are rows out, or nothing is published."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from kvspark.errors import DataError, KvsparkError, RunLockedError, SchemaError, UsageError
from kvspark.infer.model import Model
from kvspark.spark.jobs.job import run_score
from kvspark.spark.output.target import Target
from kvspark.spark.runs.history import read_history
from tests.faults.matrix import covers
from tests.spark.conftest import features
from tests.spark.small_jobs import job, published, write_night

pytestmark = pytest.mark.spark


@pytest.fixture
def folder(tmp_path: Path, mlp: Model) -> Path:
    mlp.save(tmp_path / "model")
    return tmp_path


def names_in(path: Path) -> set[str]:
    return {item.name for item in path.iterdir()}


def test_a_run_publishes_the_scored_table_and_its_report(
    spark: SparkSession, folder: Path, mlp: Model
) -> None:
    report = run_score(job(folder, write_night(folder / "night")), spark=spark)
    rows = published(folder / "out")
    expected = mlp.predict({"x": features(200)}, threads=1)
    assert rows.column_names == ["id", "x", "scores", "label"]
    assert rows["label"].to_pylist() == expected["label"].tolist()
    scores = rows["scores"].combine_chunks().flatten().to_numpy()
    assert scores.tobytes() == expected["scores"].tobytes()
    assert (report.rows_in, report.rows_out, report.run_id) == (200, 200, "night")
    written = json.loads((folder / "out" / "_kvspark" / "run.json").read_text())
    assert written["stages"]["output"]["computed"] == 200
    assert written["stages"]["output"]["fingerprint"] == mlp.fingerprint.hex()
    assert (written["degraded"], written["cache"]) == ([], None)
    assert names_in(folder) == {"model", "night", "out"}


def test_spark_reads_the_output_without_the_report(spark: SparkSession, folder: Path) -> None:
    run_score(job(folder, write_night(folder / "night")), spark=spark)
    assert spark.read.parquet(str(folder / "out")).count() == 200


def test_a_rerun_replaces_and_never_appends(spark: SparkSession, folder: Path) -> None:
    config = job(folder, write_night(folder / "night"))
    run_score(config, spark=spark)
    first = published(folder / "out")
    run_score(config, spark=spark)
    assert published(folder / "out").equals(first)


def test_each_run_adds_to_the_history_of_the_output(
    spark: SparkSession, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    night = write_night(folder / "night")
    with caplog.at_level(logging.INFO, logger="kvspark"):
        run_score(job(folder, night, run={"id": "first"}), spark=spark)
    assert "score: 200 rows (" in caplog.text
    run_score(job(folder, night, run={"id": "second"}), spark=spark)
    past = read_history(folder / "out")
    assert [(run.run_id, run.rows_out, run.computed) for run in past] == [
        ("first", 200, 200),
        ("second", 200, 200),
    ]


@covers("B10")
def test_zero_rows_publish_an_empty_table_of_the_right_schema(
    spark: SparkSession, folder: Path
) -> None:
    night = write_night(folder / "night")
    run_score(job(folder, night), spark=spark)
    full = published(folder / "out")
    report = run_score(job(folder, night, input={"filter": "id < 0"}), spark=spark)
    empty = published(folder / "out")
    assert (report.rows_in, report.rows_out, empty.num_rows) == (0, 0, 0)
    assert empty.schema.equals(full.schema)


def test_small_inputs_use_all_cores(spark: SparkSession, folder: Path) -> None:
    night = write_night(folder / "night", files=1)
    report = run_score(job(folder, night), spark=spark)
    assert report.output_files == 2
    assert published(folder / "out")["id"].to_pylist() == list(range(200))


def test_outputs_may_be_chosen_and_named(spark: SparkSession, folder: Path) -> None:
    run_score(job(folder, write_night(folder / "night"), outputs={"label": "class"}), spark=spark)
    assert published(folder / "out").column_names == ["id", "x", "class"]


def test_micro_batches_of_the_conf_change_the_fingerprint(
    spark: SparkSession, folder: Path, mlp: Model
) -> None:
    config = job(folder, write_night(folder / "night"), model={"micro_batch": {"rows": 1}})
    report = run_score(config, spark=spark)
    assert report.fingerprint != mlp.fingerprint.hex()
    assert report.stats.stages["output"].micro_batches == 200


@pytest.mark.parametrize("name", ["at=10:30", "a b", "50%", "x[1]", "{a,b}", "naïve"])
def test_any_name_is_a_path(spark: SparkSession, folder: Path, name: str) -> None:
    night = write_night(folder / name / "night")
    run_score(job(folder, night, output={"path": str(folder / name / name)}), spark=spark)
    assert published(folder / name / name).num_rows == 200
    assert names_in(folder / name) == {"night", name}


def test_a_second_run_of_the_target_is_refused(spark: SparkSession, folder: Path) -> None:
    config = job(folder, write_night(folder / "night"))
    with Target(config.output.path).lock("other"), pytest.raises(RunLockedError, match="run other"):
        run_score(config, spark=spark)
    assert not (folder / "out").exists()


def bad(folder: Path, name: str) -> Path:
    night = folder / name
    night.mkdir()
    columns = {"id": [0, 1], "x": [[0.0] * 8, None]}
    if name == "type":
        columns["x"] = ["a", "b"]
    elif name == "ragged":
        columns["x"] = [[0.0] * 8, [0.0] * 7]
    elif name == "missing":
        del columns["x"]
    kinds = {"x": pa.string() if name == "type" else pa.list_(pa.float32()), "id": pa.int64()}
    arrays = {column: pa.array(values, kinds[column]) for column, values in columns.items()}
    pq.write_table(pa.table(arrays), night / "1.parquet")
    return night


@covers("B4", "B5", "B6", "B11")
@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("null", DataError, "column 'x': 1 null among 2 rows"),
        ("type", SchemaError, r"column 'x' \(string\)"),
        ("missing", SchemaError, "no column 'x'; the table has id;"),
        ("ragged", DataError, "x"),
    ],
)
def test_a_bad_table_leaves_the_old_output(
    spark: SparkSession, folder: Path, name: str, error: type[KvsparkError], message: str
) -> None:
    run_score(job(folder, write_night(folder / "night")), spark=spark)
    before = published(folder / "out")
    with pytest.raises(error, match=message) as caught:
        run_score(job(folder, bad(folder, name)), spark=spark)
    assert caught.value.exit_code == 65
    assert "\n" not in str(caught.value)
    assert published(folder / "out").equals(before)
    assert [path.name for path in (folder / ".kvspark-out").iterdir()] == ["unpublished.jsonl"]
    *_, last = read_history(folder / "out")
    assert (last.state, last.exit_code, last.code) == ("failed", 65, caught.value.code)


def test_a_bad_row_that_only_a_worker_sees_is_a_data_error(
    spark: SparkSession, folder: Path
) -> None:
    night = write_night(folder / "night", files=1)
    rows = pa.table({"id": [1000], "x": pa.array([[0.0] * 7], pa.list_(pa.float32()))})
    pq.write_table(rows, night / "z.parquet")
    with pytest.raises(DataError):
        run_score(job(folder, night), spark=spark)
    assert not (folder / "out").exists()


@covers("B2")
def test_a_damaged_page_is_a_data_error(spark: SparkSession, folder: Path) -> None:
    night = folder / "night"
    night.mkdir()
    table = pa.table({"id": np.arange(4096), "x": list(features(4096))})
    options = {"compression": "none", "use_dictionary": False, "write_page_checksum": True}
    pq.write_table(table, night / "1.parquet", **options)
    content = bytearray((night / "1.parquet").read_bytes())
    content[4096] ^= 0xFF  # a page of `id`, which the preflight does not read
    (night / "1.parquet").write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"1\.parquet cannot be read to its end"):
        run_score(job(folder, night), spark=spark)
    assert not (folder / "out").exists()


def test_max_length_of_a_saved_model_is_refused(spark: SparkSession, folder: Path) -> None:
    config = job(folder, write_night(folder / "night"), model={"max_length": 64})
    with pytest.raises(UsageError, match="max_length"):
        run_score(config, spark=spark)


def test_an_output_inside_the_input_is_refused(spark: SparkSession, folder: Path) -> None:
    night = write_night(folder / "night")
    with pytest.raises(UsageError, match="overlap"):
        run_score(job(folder, night, output={"path": str(night / "out")}), spark=spark)


def test_each_phase_says_one_line(
    spark: SparkSession, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="kvspark.spark.runs.phases"):
        run_score(job(folder, write_night(folder / "night")), spark=spark)
    told = [record.getMessage().split(":")[0] for record in caplog.records]
    assert told == ["open", "read", "preflight", "plan", "score", "validate", "publish"]
