"""The quarantine table of a run: bad rows by name, beside an output that does not hold them."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from pyspark import TaskContext
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

import kvspark
from kvspark.errors import BadRowsError, UsageError
from kvspark.infer.model import Model
from kvspark.infer.resolve.compiled_plan import compiled_plan
from kvspark.plan.plan import Plan
from kvspark.spark.badrows.quarantine import Quarantine, quarantine_of
from kvspark.spark.badrows.quarantine_files import collected
from kvspark.spark.columns.column_map import column_map
from kvspark.spark.jobs.job import run_score
from kvspark.spark.scoring.score import task_spec
from kvspark.spark.scoring.score_task import ScoreTask
from kvspark.spark.sources.input.source import Source
from kvspark.table.place.local_place import LocalPlace
from tests.spark.conftest import features
from tests.spark.small_jobs import job, published

pytestmark = pytest.mark.spark

ROWS = 300
BAD = {10: "NullValue", 150: "WrongValue", 299: "WrongValue"}


def write_night(path: Path, bad: Iterable[int] = BAD, rows: int = ROWS) -> Path:
    """`id`, `key` and `x` in two files."""
    path.mkdir()
    x: list[Any] = features(rows).tolist()
    for row in bad:
        x[row] = None if row == 10 else x[row][:3]
    for number, places in enumerate(np.array_split(np.arange(rows), 2)):
        columns = {
            "id": places,
            "key": [f"key-{i}" for i in places],
            "x": pa.array([x[i] for i in places], pa.list_(pa.float32())),
        }
        pq.write_table(pa.table(columns), path / f"{number}.parquet")
    return path


@pytest.fixture
def folder(tmp_path: Path, mlp: Model) -> Path:
    mlp.save(tmp_path / "model")
    return tmp_path


def quarantined(output: Path) -> pa.Table:
    return ds.dataset(output / "_kvspark" / "quarantine", format="parquet").to_table()


def told(output: Path, name: str = "id") -> dict[Any, str]:
    rows = quarantined(output)
    return dict(zip(rows[name].to_pylist(), rows["error"].to_pylist(), strict=True))


def quarantine(**more: Any) -> dict[str, Any]:
    return {"on_bad_row": "quarantine", **more}


def test_bad_rows_are_in_the_quarantine_and_all_others_in_the_output(
    spark: SparkSession, folder: Path, mlp: Model
) -> None:
    night = write_night(folder / "night")
    report = run_score(job(folder, night, input=quarantine(id=["id", "key"])), spark=spark)
    rows = quarantined(folder / "out")
    assert rows.column_names == ["id", "key", "stage", "error", "message", "partition"]
    assert told(folder / "out") == BAD
    assert told(folder / "out", "key") == {f"key-{row}": error for row, error in BAD.items()}
    good = [row for row in range(ROWS) if row not in BAD]
    output = published(folder / "out")
    assert output["id"].to_pylist() == good
    expected = mlp.predict({"x": features(ROWS)[good]}, threads=1)
    scores = output["scores"].combine_chunks().flatten().to_numpy()
    assert scores.tobytes() == expected["scores"].tobytes()
    assert (report.rows_in, report.rows_out, report.rows_quarantined) == (300, 297, 3)
    written = json.loads((folder / "out" / "_kvspark" / "run.json").read_text())
    assert written["bad_rows"] == {"input": {"NullValue": 1, "WrongValue": 2}}
    assert (written["on_bad_row"], written["rows_quarantined"]) == ("quarantine", 3)
    assert {item.name for item in folder.iterdir()} == {"model", "night", "out"}


def test_no_reader_of_the_output_sees_the_quarantine(spark: SparkSession, folder: Path) -> None:
    night = write_night(folder / "night")
    for day in ("2026-01-01", "2026-01-02"):
        output = {"path": str(folder / "scored" / f"dt={day}")}
        run_score(job(folder, night, input=quarantine(), output=output), spark=spark)
    whole = spark.read.parquet(str(folder / "scored"))
    assert whole.columns == ["id", "key", "x", "scores", "label", "dt"]
    assert whole.count() == 2 * 297
    everywhere = spark.read.option("recursiveFileLookup", "true").parquet(str(folder / "scored"))
    assert everywhere.count() == 2 * 297
    assert ds.dataset(folder / "scored", partitioning="hive").count_rows() == 2 * 297
    assert pq.read_table(folder / "scored" / "dt=2026-01-01").num_rows == 297
    aside = folder / "scored" / "dt=2026-01-01" / "_kvspark" / "quarantine"
    assert spark.read.parquet(str(aside)).count() == 3


def test_without_an_id_a_row_is_named_by_its_file_and_its_place(
    spark: SparkSession, folder: Path
) -> None:
    night = write_night(folder / "night")
    run_score(job(folder, night, input=quarantine()), spark=spark)
    rows = quarantined(folder / "out").sort_by([("file", "ascending"), ("row", "ascending")])
    assert rows.column_names == ["file", "row", "stage", "error", "message", "partition"]
    assert [file.rpartition("/")[2] for file in rows["file"].to_pylist()] == [
        "0.parquet",
        "1.parquet",
        "1.parquet",
    ]
    assert rows["row"].to_pylist() == [10, 0, 149]


@pytest.mark.parametrize("column", ["file", "row"])
def test_an_input_may_be_called_what_the_table_calls_a_place(
    spark: SparkSession, folder: Path, column: str
) -> None:
    table = pq.read_table(write_night(folder / "night"))
    night = folder / "one.parquet"
    pq.write_table(table.rename_columns(["id", "key", column]), night)
    run_score(job(folder, night, input=quarantine(), inputs={"x": column}), spark=spark)
    assert quarantined(folder / "out")["row"].to_pylist() == [10, 150, 299]
    assert published(folder / "out").num_rows == 297


def test_a_place_is_right_behind_a_filter_and_a_shuffle(spark: SparkSession, folder: Path) -> None:
    night = write_night(folder / "night")
    (night / "0.parquet").unlink()
    conf = job(folder, night, input=quarantine(filter="id > 200"))
    run_score(conf, spark=spark)
    assert quarantined(folder / "out")["row"].to_pylist() == [149]
    assert published(folder / "out").num_rows == 98


def test_a_night_without_bad_rows_has_an_empty_table(spark: SparkSession, folder: Path) -> None:
    run_score(job(folder, write_night(folder / "first"), input=quarantine(id=["key"])), spark=spark)
    report = run_score(
        job(folder, write_night(folder / "second", ()), input=quarantine(id=["key"])), spark=spark
    )
    assert report.rows_quarantined == 0
    table = spark.read.parquet(str(folder / "out" / "_kvspark" / "quarantine"))
    assert table.columns == ["key", "stage", "error", "message", "partition"]
    assert table.count() == 0


def test_null_keeps_every_row(spark: SparkSession, folder: Path) -> None:
    # YAML's own null, as a conf file has it.
    report = run_score(
        job(folder, write_night(folder / "night"), input={"on_bad_row": None}), spark=spark
    )
    output = published(folder / "out")
    assert output.num_rows == ROWS
    assert np.flatnonzero(output["label"].is_null()).tolist() == list(BAD)
    assert np.flatnonzero(output["scores"].is_null()).tolist() == list(BAD)
    assert (report.rows_out, report.rows_quarantined) == (ROWS, 0)
    assert not (folder / "out" / "_kvspark" / "quarantine").exists()


@pytest.mark.parametrize(
    "limit",
    [
        {"on_bad_row": "quarantine", "max_bad_rows": 2},
        {"on_bad_row": "null", "max_bad_fraction": 0.009},
    ],
    ids=["rows", "fraction"],
)
def test_more_bad_rows_than_the_conf_allows_publish_nothing(
    spark: SparkSession, folder: Path, limit: dict[str, Any]
) -> None:
    run_score(job(folder, write_night(folder / "first", ())), spark=spark)
    before = published(folder / "out")
    with pytest.raises(BadRowsError, match="nothing was published") as bad:
        run_score(job(folder, write_night(folder / "second"), input=limit), spark=spark)
    assert bad.value.exit_code == 65
    assert published(folder / "out").equals(before)
    assert {item.name for item in folder.iterdir()} == {
        *("model", "first", "second", "out"),
        ".kvspark-out",  # the history has a line for it
    }


def test_as_many_as_the_conf_allows_are_published(spark: SparkSession, folder: Path) -> None:
    limits = quarantine(max_bad_rows=3, max_bad_fraction=0.01)
    run_score(job(folder, write_night(folder / "night"), input=limits), spark=spark)
    assert published(folder / "out").num_rows == 297


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (
            ["nobody"],
            r"^input.id: there is no column 'nobody'; the table has id, key, x; name one of these; nothing was written$",
        ),
        (
            ["idd"],
            r"^input.id: there is no column 'idd'; did you mean 'id'\?; nothing was written$",
        ),
        (["x"], "input.id names column 'x', which the model reads"),
    ],
)
def test_a_column_that_cannot_name_a_row_is_refused(
    spark: SparkSession, folder: Path, ids: list[str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        run_score(job(folder, write_night(folder / "night"), input=quarantine(id=ids)), spark=spark)
    assert not (folder / "out").exists()


def test_a_table_whose_first_rows_are_bad_is_scored_and_not_remembered(
    spark: SparkSession, folder: Path
) -> None:
    night = write_night(folder / "night", range(150))
    pq.write_table(pq.read_table(night).sort_by("id"), folder / "one.parquet")
    night = folder / "one.parquet"
    cache = {"url": f"embedded:{folder / 'cache'}"}
    report = run_score(job(folder, night, input=quarantine(), cache=cache), spark=spark)
    assert report.rows_quarantined == 150
    assert report.stats.degraded == {"unchecked"}
    assert report.stats.stages["output"].lookups == 0
    assert published(folder / "out").num_rows == 150


def test_a_task_that_is_tried_again_leaves_no_row_twice(
    spark: SparkSession, folder: Path, mlp: Model, tmp_path: Path
) -> None:
    df = spark.read.parquet(str(write_night(folder / "night"))).repartition(2, F.col("id"))
    columns = column_map(mlp.bundle, None, {"label": "label"})
    folder = tmp_path / "bad"
    folder.mkdir()
    place = LocalPlace(str(folder))
    df, aside = quarantine_of(Source(df, ROWS), columns, ids=("id",), place=place, most=None)
    names = (*df.columns, "label")
    places = columns.places(df.schema)
    spec = task_spec(spark, compiled_plan(mlp.bundle, Plan(max_pending_rows=1)), None)
    task = ScoreTask(spec, columns, places, names, "call", None, aside)

    def dies_once(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield from task.run(batches)
        context = TaskContext.get()
        if context and context.attemptNumber() == 0:
            (tmp_path / f"died-{context.partitionId()}").touch()
            os.kill(os.getpid(), signal.SIGKILL)

    scored = df.mapInArrow(dies_once, "id long, key string, x array<float>, label long")
    kept = {row.id for row in scored.collect()}
    assert len(list(tmp_path.glob("died-*"))) == 2
    assert isinstance(aside, Quarantine)
    assert len(list(folder.glob("part-*"))) > len(aside.files.value)
    assert aside.aside().rows == 3
    assert collected(aside.aside(), folder, tmp_path / "staged") == 3
    assert told_of(tmp_path / "staged") == set(BAD)
    assert kept == set(range(ROWS)) - set(BAD)


def told_of(staged: Path) -> set[int]:
    return set(quarantined(staged)["id"].to_pylist())


def test_a_quarantine_that_the_driver_cannot_find_publishes_nothing(
    spark: SparkSession, folder: Path, mlp: Model, tmp_path: Path
) -> None:
    df = spark.read.parquet(str(write_night(folder / "night")))
    columns = column_map(mlp.bundle, None, None)
    place = LocalPlace(str(tmp_path))
    _, aside = quarantine_of(Source(df, ROWS), columns, ids=(), place=place, most=None)
    aside.files.add({7: ("part-00007-9.parquet", 1)})
    with pytest.raises(kvspark.KvsparkError, match="bad rows of partition 7 are not in"):
        collected(aside.aside(), tmp_path, tmp_path / "staged")
