"""`score`: the model's outputs behind columns that nobody touched."""

from __future__ import annotations

import datetime as dt
import os
import re
import signal
import sys
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from zipimport import zipimporter

import numpy as np
import pyarrow as pa
import pyspark
import pytest
from chispa import assert_df_equality
from pyspark import TaskContext
from pyspark.errors import PythonException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

import kvspark
from kvspark.errors import SchemaError, UsageError
from kvspark.infer.model import Model
from kvspark.infer.resolve.compiled_plan import compiled_plan
from kvspark.plan.plan import Plan, StagePlan
from kvspark.spark.columns.column_map import ColumnMap
from kvspark.spark.runs.tally import Tally
from kvspark.spark.scoring.score import score, task_spec
from kvspark.spark.scoring.score_task import ScoreTask
from tests.faults.matrix import covers
from tests.spark.conftest import ROWS, features

pytestmark = pytest.mark.spark

EVERYTHING = """id long, x array<float>, f double, big long, s struct<a: int, b: array<string>>,
    m map<string, double>, at timestamp, local timestamp_ntz, day date, price decimal(38, 18),
    raw binary, flag boolean, text string, tiny byte"""
AT = dt.datetime(2026, 3, 29, 1, 30, 0, 123456)  # noqa: DTZ001 - Spark takes local times


def everything(spark: SparkSession) -> DataFrame:
    """Rows whose other columns are easily spoilt: NaN beside null, int64 above 2^53, nested values."""
    x = features(3).tolist()
    full = [
        (1, ["a", None]),
        {"k": 1.5},
        AT,
        AT,
        AT.date(),
        Decimal("1.000000000000000001"),
        b"\x00\xff",
    ]
    rows = [
        (0, x[0], float("nan"), 2**53 + 1, *full, True, "a\x00é", 127),
        (1, x[1], None, None, None, None, None, None, None, None, None, None, None, None),
        (2, x[2], -0.0, -(2**63), (None, []), {}, *full[2:], False, "", -128),
    ]
    return spark.createDataFrame(rows, EVERYTHING)


def in_order(scored: DataFrame, output: str) -> np.ndarray:
    rows = scored.select("id", output).toArrow().sort_by("id")
    return np.array(rows[output].to_pylist())


def test_the_outputs_are_those_of_the_model(table: DataFrame, mlp: Model) -> None:
    scored = table.transform(kvspark.score, mlp)
    expected = mlp.predict({"x": features()}, threads=1)
    assert scored.columns == ["id", "x", "scores", "label"]
    assert in_order(scored, "scores").astype("float32").tobytes() == expected["scores"].tobytes()
    assert (in_order(scored, "label") == expected["label"]).all()


@covers("B7", "B15")
def test_other_columns_pass_through_untouched(spark: SparkSession, mlp: Model) -> None:
    df = everything(spark)
    scored = score(df, mlp).drop("scores", "label")
    assert_df_equality(scored, df, allow_nan_equality=True)
    before, after = (frame.toArrow()["f"].combine_chunks() for frame in (df, scored))
    assert before.buffers()[1].to_pybytes()[-8:] == after.buffers()[1].to_pybytes()[-8:]  # -0.0


def test_inputs_and_outputs_may_have_other_names(table: DataFrame, mlp: Model) -> None:
    df = table.withColumnRenamed("x", "the.vector")
    scored = score(df, mlp, inputs={"x": "the.vector"}, outputs={"label": "class"})
    assert scored.columns == ["id", "the.vector", "class"]
    assert in_order(scored, "class").tolist() == in_order(score(table, mlp), "label").tolist()


def test_a_table_may_have_one_name_twice(table: DataFrame, mlp: Model) -> None:
    scored = score(table.select("*", F.lit(1).alias("a"), F.lit(2).alias("A")), mlp)
    assert scored.columns == ["id", "x", "a", "A", "scores", "label"]
    assert scored.count() == ROWS


def test_a_model_may_have_several_inputs(spark: SparkSession, towers: Model) -> None:
    user, item = features(20, 8), features(20, 6)
    rows = [(i, item[i].tolist(), user[i].tolist()) for i in range(20)]
    df = spark.createDataFrame(rows, "id long, item array<float>, user array<float>")
    expected = towers.predict({"user": user, "item": item}, threads=1)["output"]
    assert in_order(score(df, towers), "output").astype("float32").tobytes() == expected.tobytes()


def test_a_missing_column_says_what_is_there(table: DataFrame, mlp: Model) -> None:
    with pytest.raises(SchemaError, match=r"no column 'x'; the table has id, y; map"):
        score(table.withColumnRenamed("x", "y"), mlp)


@covers("B5")
@pytest.mark.parametrize("kind", ["array<double>", "string", "array<array<float>>", "binary"])
def test_a_column_of_another_type_is_refused(spark: SparkSession, mlp: Model, kind: str) -> None:
    df = spark.createDataFrame([], f"id long, x {kind}")
    with pytest.raises(SchemaError, match=r"column 'x' \("):
        score(df, mlp)


@pytest.mark.parametrize("name", ["label", "Label"])
def test_an_output_that_is_a_column_already_is_refused(
    table: DataFrame, mlp: Model, name: str
) -> None:
    with pytest.raises(UsageError, match=f"the table has '{name}' already"):
        score(table.withColumn(name, F.lit(1)), mlp)


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        ({"xx": "x"}, None, "did you mean 'x'"),
        (None, {"lable": "l"}, "did you mean 'label'"),
        (None, {"label": "a", "scores": "A"}, "for two outputs"),
        (None, {}, "outputs is empty"),
    ],
    ids=["input", "output", "twice", "none"],
)
def test_a_wrong_name_is_told_on_the_driver(
    table: DataFrame,
    mlp: Model,
    inputs: dict[str, str] | None,
    outputs: dict[str, str] | None,
    message: str,
) -> None:
    with pytest.raises(UsageError, match=message):
        score(table, mlp, inputs=inputs, outputs=outputs)


def test_a_plan_for_another_model_is_refused(table: DataFrame, mlp: Model) -> None:
    with pytest.raises(UsageError, match="tail"):
        score(table, mlp, plan=Plan({"tail": StagePlan(cached=True)}))


@covers("B6")
def test_a_null_names_column_partition_and_count(spark: SparkSession, mlp: Model) -> None:
    df = spark.createDataFrame([(0, None), (1, [0.0] * 8), (2, None)], "id long, v array<float>")
    refused = r"kvspark\.errors\.RowError: row 0 of partition 0: .*column 'v' is null"
    for rows, more in ((df, r" \(and 1 more of 3 rows\);"), (df.where("id < 2"), ";")):
        with pytest.raises(PythonException) as caught:
            score(rows.coalesce(1), mlp, inputs={"x": "v"}).collect()
        assert re.search(refused + more, str(caught.value))


@covers("B11")
def test_a_ragged_row_is_refused(spark: SparkSession, mlp: Model) -> None:
    df = spark.createDataFrame([(0, [0.0] * 8), (1, [0.0] * 7)], "id long, x array<float>")
    with pytest.raises(
        PythonException,
        match=r"kvspark\.errors\.RowError: row \d+ of partition \d+: input 'x'",
    ):
        score(df, mlp).collect()


def test_the_counts_of_all_tasks_add_up(spark: SparkSession, table: DataFrame, mlp: Model) -> None:
    tally = Tally(spark)
    score(table, mlp, stats=tally).count()
    score(table, mlp, stats=tally).write.format("noop").mode("overwrite").save()
    stats = tally.stats
    assert stats.rows in {ROWS, 2 * ROWS}  # a count may be answered without the model
    assert stats.stages["output"].computed == stats.rows


def test_equal_rows_are_computed_once(spark: SparkSession, mlp: Model) -> None:
    df = spark.range(100).select("id", F.array_repeat(F.lit(0.5).cast("float"), 8).alias("x"))
    tally = Tally(spark)
    dear = StagePlan(cached=False, finds_equal_rows=True)
    plan = Plan({stage.name: dear for stage in mlp.stages})
    scored = score(df.coalesce(1), mlp, plan=plan, stats=tally).collect()
    assert tally.stats.stages["trunk"].computed == 1
    assert len({tuple(row.scores) for row in scored}) == 1


@covers("B9")
def test_empty_partitions_open_nothing(spark: SparkSession, mlp: Model) -> None:
    tally = Tally(spark)
    df = spark.createDataFrame([], "id long, x array<float>").repartition(3)
    assert score(df, mlp, stats=tally).collect() == []
    assert tally.stats.stages == {}


@covers("B22")
def test_a_model_that_fails_is_named_without_its_rows(spark: SparkSession, mlp: Model) -> None:
    df = spark.createDataFrame([(0, [7.25] * 8)], "id long, x array<float>")
    spec = task_spec(spark, compiled_plan(mlp.bundle), None)
    columns = ColumnMap({"x": "x"}, {"no such output": "y"})
    task = ScoreTask(spec, columns, {"x": 1}, ("id", "x", "y"), "call", None)
    with pytest.raises(PythonException) as caught:
        df.mapInArrow(task.run, "id long, x array<float>, y long").collect()
    assert "kvspark.errors.ModelError: model 'mlp' raised KeyError at" in str(caught.value)
    assert "7.25" not in str(caught.value)


@covers("F32")
def test_a_worker_that_dies_changes_neither_rows_nor_counts(
    spark: SparkSession, table: DataFrame, mlp: Model, tmp_path: Path
) -> None:
    tally = Tally(spark)
    spec = task_spec(spark, compiled_plan(mlp.bundle, Plan(max_pending_rows=1)), None)
    columns = ColumnMap({"x": "x"}, {"label": "label"})
    task = ScoreTask(spec, columns, {"x": 1}, ("id", "x", "label"), "call", tally)

    def dies_once(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        context = TaskContext.get()
        for batch in task.run(batches):
            if context and context.partitionId() == 1 and context.attemptNumber() == 0:
                (tmp_path / "died").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            yield batch

    scored = table.mapInArrow(dies_once, "id long, x array<float>, label long")
    assert in_order(scored, "label").tolist() == in_order(score(table, mlp), "label").tolist()
    assert (tmp_path / "died").exists()
    assert tally.stats.rows == ROWS
    assert tally.stats.stages["output"].computed == ROWS


def test_a_worker_keeps_no_finder_whose_zip_file_the_next_task_would_list_again(
    spark: SparkSession, table: DataFrame, mlp: Model
) -> None:
    spec = task_spec(spark, compiled_plan(mlp.bundle), None)
    columns = ColumnMap({"x": "x"}, {"label": "label"})
    task = ScoreTask(spec, columns, {"x": 1}, ("id", "x", "label"), "call", None)

    def finders(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        list(task.run(batches))
        zips = sum(isinstance(each, zipimporter) for each in sys.path_importer_cache.values())
        yield pa.RecordBatch.from_pylist([{"zips": zips, "pyspark": str(pyspark.__file__)}])

    told = table.mapInArrow(finders, "zips long, pyspark string").collect()
    assert all(".zip/" in row.pyspark for row in told)
    assert {row.zips for row in told} == {0}


def test_what_nobody_tallied_is_not_counted_for_the_next(
    spark: SparkSession, table: DataFrame, mlp: Model
) -> None:
    score(table, mlp).collect()
    tally = Tally(spark)
    score(table, mlp, stats=tally).collect()
    assert tally.stats.rows == ROWS


def test_a_limit_ends_early(table: DataFrame, mlp: Model) -> None:
    assert len(score(table, mlp, plan=Plan(max_pending_rows=1)).limit(1).collect()) == 1
