"""A bad row that fails a run, or an action, is named: its file and place, or what names rows."""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pyspark.errors import PythonException
from pyspark.sql import SparkSession

import kvspark
from kvspark.errors import DataError, RowError, UsageError
from kvspark.infer.model import Model
from kvspark.spark.jobs.job import run_score
from tests.small_models import seeded
from tests.spark.small_jobs import job

pytestmark = pytest.mark.spark

ROWS = 400
TABLE = 50


@pytest.fixture(scope="module")
def lookup() -> Model:
    """Ids of 50; another one makes torch raise."""
    module = torch.nn.Sequential(torch.nn.Embedding(TABLE, 4), torch.nn.Linear(4, 2))
    return Model.from_torch(
        seeded(module), {"input": torch.zeros(3, dtype=torch.int64)}, cuts=["0"], name="lookup"
    )


def write_night(path: Path, bad: dict[int, int | None], *, files: int = 2) -> Path:
    """`id`, `key` and `v` in some files, in pages and row groups of a few rows."""
    path.mkdir()
    values: list[int | None] = [place % TABLE for place in range(ROWS)]
    for place, value in bad.items():
        values[place] = value
    for number, places in enumerate(np.array_split(np.arange(ROWS), files)):
        columns: dict[str, Iterable[Any]] = {
            "id": places,
            "key": [f"key-{place}" for place in places],
            "v": pa.array([values[place] for place in places], pa.int64()),
        }
        pq.write_table(pa.table(columns), path / f"part {number}.parquet", row_group_size=30)
    return path


def failed(spark: SparkSession, folder: Path, night: Path, **given: Any) -> str:
    with pytest.raises(DataError) as caught:
        run_score(
            job(folder, night, inputs={"input": "v"}, input={"paths": [str(night)], **given}),
            spark=spark,
        )
    assert not (folder / "out").exists()
    assert len(caught.value.line()) <= 400
    return str(caught.value)


def test_a_value_that_a_cast_does_not_take_is_named_before_the_run_scores(
    spark: SparkSession, tmp_path: Path, lookup: Model
) -> None:
    lookup.save(tmp_path / "model")
    night = write_night(tmp_path / "night", {})
    given = {"expr": "concat('x', v)", "cast": "bigint"}  # in each row
    with pytest.raises(RowError) as caught:
        run_score(job(tmp_path, night, inputs={"input": given}), spark=spark)
    said = (
        re.escape(f"{night}/part ") + r"[01]\.parquet row \d+: input 'input': expr .* is no bigint"
    )
    assert re.match(said, str(caught.value))
    assert str(caught.value).endswith("; nothing was written")


@pytest.mark.parametrize(
    ("bad", "said", "files"),
    [
        ({333: 57}, "id 57 outside 0..49", 1),
        ({333: -1}, "id -1 outside 0..49", 2),
        ({395: 987_654_321}, "an id far above 0..49", 5),  # behind the rows of the preflight
    ],
    ids=["spread", "as-many-as-cores", "more-files"],
)
def test_a_row_that_fails_the_run_has_its_file_and_its_place_there(
    bad: dict[int, int | None], said: str, files: int,
    spark: SparkSession, lookup: Model, tmp_path: Path,
) -> None:  # fmt: skip
    lookup.save(tmp_path / "model")
    night = write_night(tmp_path / "n", bad, files=files)
    line = failed(spark, tmp_path, night)
    parts = np.array_split(np.arange(ROWS), files)
    (at,) = bad
    number = next(n for n, places in enumerate(parts) if at in places)
    place = at - parts[number][0]
    assert line.startswith(f"{night}/part {number}.parquet row {place}: stage '0': {said}; filter")
    assert "987654321" not in line
    assert line.endswith("nothing was published")


def test_a_row_among_the_first_has_its_place_before_anything_is_written(
    spark: SparkSession, lookup: Model, tmp_path: Path
) -> None:
    lookup.save(tmp_path / "model")
    night = write_night(tmp_path / "n", {2: 50, 5: 51, 202: 50})
    line = failed(spark, tmp_path, night)
    assert re.match(r".*/part \d\.parquet row 2: stage '0': id 50 outside 0\.\.49", line)
    assert line.endswith("nothing was written")


def test_the_columns_that_name_a_row_name_it_in_the_error_too(
    spark: SparkSession, lookup: Model, tmp_path: Path
) -> None:
    lookup.save(tmp_path / "model")
    night = write_night(tmp_path / "n", {333: 50})
    line = failed(spark, tmp_path, night, id=["id", "key"])
    assert line.startswith("row with id 333, key key-333: stage '0': id 50 outside 0..49")
    wrong = job(tmp_path, night, inputs={"input": "v"}, input={"paths": [str(night)], "id": "nr"})
    with pytest.raises(
        UsageError, match=r"input\.id: there is no column 'nr'; the table has id, key, v"
    ):
        run_score(wrong, spark=spark)


def test_a_run_with_a_filter_names_the_row_of_the_file(
    spark: SparkSession, lookup: Model, tmp_path: Path
) -> None:
    lookup.save(tmp_path / "model")
    night = write_night(tmp_path / "n", {7: 60, 350: 60})
    assert "/part 1.parquet row 150: " in failed(spark, tmp_path, night, filter="id > 100")


def test_debug_shows_all_that_the_model_says_and_only_debug(
    spark: SparkSession, lookup: Model, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lookup.save(tmp_path / "model")
    night = write_night(tmp_path / "n", {333: 60})
    with caplog.at_level(logging.INFO, logger="kvspark"):
        failed(spark, tmp_path, night)
    assert "index out of range in self" not in caplog.text
    with caplog.at_level(logging.DEBUG, logger="kvspark"):
        failed(spark, tmp_path, night)
    assert "part 1.parquet row 133" in caplog.text
    # Beside other tests Spark formats records as JSON, without what an error was raised from.
    told = [record.exc_info[1] for record in caplog.records if record.exc_info]
    shown = "".join(line for one in told if one for line in traceback.format_exception(one))
    assert "index out of range in self" in shown


def test_an_action_names_the_row_of_the_partition(spark: SparkSession, lookup: Model) -> None:
    bad = {33: 57}
    rows = [(place, bad.get(place, place % TABLE)) for place in range(60)]
    df = spark.createDataFrame(rows, "id long, input long").coalesce(1)
    before = spark.conf.get("spark.sql.execution.arrow.maxRecordsPerBatch")
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "10")
    try:
        with pytest.raises(PythonException) as caught:
            kvspark.score(df, lookup).collect()
    finally:
        spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", str(before))
    said = "kvspark.errors.RowError: row 33 of partition 0: stage '0': id 57 outside 0..49; filter"
    assert said in str(caught.value)


def test_a_null_is_named_by_its_row_too(spark: SparkSession, lookup: Model) -> None:
    rows = [(place, None if place in (41, 42) else place % TABLE) for place in range(60)]
    df = spark.createDataFrame(rows, "id long, input long").coalesce(1)
    with pytest.raises(
        PythonException, match=r"row 41 of partition 0: column 'input' is null \(and 1"
    ):
        kvspark.score(df, lookup).collect()


def test_predict_says_the_row_and_keeps_what_torch_said_as_its_cause(lookup: Model) -> None:
    with pytest.raises(
        RowError, match=r"row 3 of the batch: stage '0': id 50 outside 0\.\.49"
    ) as bad:
        lookup.predict({"input": [1, 2, 3, 50]})
    assert isinstance(bad.value.__cause__, IndexError)
