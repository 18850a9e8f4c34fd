"""`udf`: the same predictor in `select` and SQL."""

from __future__ import annotations

from typing import final

import numpy as np
import pytest
import torch
from pyspark.errors import PythonException
from pyspark.sql import DataFrame, SparkSession

import kvspark
from kvspark.errors import UsageError
from kvspark.infer.model import Model
from kvspark.spark.scoring.score import score
from kvspark.spec import TensorSpec
from tests.callables import same
from tests.spark.by_id import by_id
from tests.spark.conftest import features

pytestmark = pytest.mark.spark


def test_one_output_is_a_column(table: DataFrame, mlp: Model) -> None:
    label = kvspark.udf(mlp, output="label")
    by_udf = by_id(table.select("id", label("x").alias("label")))
    assert by_udf == by_id(score(table, mlp).select("id", "label"))


def test_an_array_output_is_a_column(table: DataFrame, mlp: Model) -> None:
    scores = kvspark.udf(mlp, output="scores")
    by_udf = by_id(table.select("id", scores("x").alias("scores")))
    assert by_udf == by_id(score(table, mlp).select("id", "scores"))


def test_several_outputs_are_a_struct(table: DataFrame, mlp: Model) -> None:
    both = kvspark.udf(mlp)
    by_udf = by_id(table.select("id", both("x").alias("y")).select("id", "y.*"))
    assert by_udf == by_id(score(table, mlp).select("id", "scores", "label"))


def test_several_inputs_come_in_the_order_of_the_model(spark: SparkSession, towers: Model) -> None:
    user, item = features(20, 8), features(20, 6)
    rows = [(i, user[i].tolist(), item[i].tolist()) for i in range(20)]
    df = spark.createDataFrame(rows, "id long, u array<float>, i array<float>")
    made = df.select(kvspark.udf(towers)("u", "i").alias("y")).toArrow()["y"].to_pylist()
    expected = towers.predict({"user": user, "item": item}, threads=1)["output"]
    assert np.array(made, "float32").tobytes() == expected.tobytes()


@final
class WithNan(torch.nn.Module):
    """Numbers, arrays and matrices of them, and a whole number above 2^53."""

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        one = x.sqrt()
        return {
            "number": one[:, 0],
            "double": one[:, 1].double(),
            "array": one,
            "matrix": one.unsqueeze(1).expand(-1, 2, -1),
            "whole": torch.full_like(x[:, 0], 0).long() + 2**53 + 1,
        }


def test_nan_stays_nan_and_null_stays_null(spark: SparkSession) -> None:
    model = Model.from_torch(WithNan().eval(), {"x": torch.ones(2, 3)}, name="nan")
    rows = [(0, [1.0, -1.0, 4.0]), (1, [-4.0, 9.0, 0.25]), (2, None), (3, [1.0, 1.0, 1.0])]
    df = spark.createDataFrame(rows, "id int, x array<float>").coalesce(1)
    right = score(df, model, on_bad_row="null").drop("x").toArrow().sort_by("id")
    made = df.select("id", kvspark.udf(model, on_bad_row="null")("x").alias("y")).select(
        "id", "y.*"
    )
    by_udf = made.toArrow().sort_by("id")
    assert repr(by_udf.to_pylist()) == repr(right.to_pylist())
    assert repr(by_udf["number"].to_pylist()) == "[1.0, nan, None, 1.0]"
    for name in ("number", "array"):
        alone = kvspark.udf(model, output=name, on_bad_row="null")
        column = df.select("id", alone("x").alias("y")).toArrow().sort_by("id")["y"]
        assert repr(column.to_pylist()) == repr(right[name].to_pylist())


def test_sql_knows_it(spark: SparkSession, table: DataFrame, mlp: Model) -> None:
    spark.udf.register("label_of", kvspark.udf(mlp, output="label"))
    table.createOrReplaceTempView("udf_rows")
    assert spark.sql("SELECT label_of(x) AS label FROM udf_rows WHERE id < 7").count() == 7


def test_a_call_with_other_columns_than_the_model_has_inputs_is_refused(
    spark: SparkSession, mlp: Model, towers: Model
) -> None:
    assert spark is SparkSession.getActiveSession()
    with pytest.raises(UsageError, match=r"takes 1 column, .*: x; got 0\. With inputs="):
        kvspark.udf(mlp)()
    for columns in (("u",), ("u", "i", "i")):
        with pytest.raises(UsageError, match=rf"takes 2 columns, .*; got {len(columns)}\."):
            kvspark.udf(towers)(*columns)


def test_a_call_in_sql_with_other_columns_is_told_by_the_worker(
    spark: SparkSession, mlp: Model, towers: Model
) -> None:
    spark.udf.register("one_input", kvspark.udf(mlp, output="label"))
    spark.udf.register("two_inputs", kvspark.udf(towers))
    row = "array(float(1))"
    for call, said in (
        (f"one_input({row}, {row})", "takes 1 column, .*; got 2"),
        (f"two_inputs({row})", "takes 2 columns, .*; got 1"),
        (f"two_inputs({row}, {row}, {row})", "takes 2 columns, .*; got 3"),
    ):
        with pytest.raises(PythonException, match=said):
            spark.sql(f"SELECT {call}").collect()


def test_a_filter_on_its_column_does_not_run_the_model_twice(
    table: DataFrame, mlp: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    label = kvspark.udf(mlp, output="label")
    df = table.select("id", label("x").alias("label")).where("label > 0")
    df.explain(mode="simple")
    assert capsys.readouterr().out.count("ArrowEvalPython") == 1


def test_a_null_array_is_refused(spark: SparkSession, mlp: Model) -> None:
    df = spark.createDataFrame([(None,), ([0.0] * 8,)], "x array<float>").coalesce(1)
    with pytest.raises(PythonException, match="column 'x' is null"):
        df.select(kvspark.udf(mlp, output="label")("x")).collect()


def test_an_unknown_output_is_told_at_once(spark: SparkSession, mlp: Model) -> None:
    with pytest.raises(UsageError, match="did you mean 'label'"):
        kvspark.udf(mlp, output="lable")


@final
class Shifted(torch.nn.Module):
    """Whole numbers that no float64 holds."""

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return ids.sum(dim=1) + 2**60


@pytest.mark.parametrize("output", ["label", "scores", None], ids=["one", "array", "struct"])
def test_a_bad_row_has_no_outputs_where_that_is_asked_for(
    spark: SparkSession, mlp: Model, output: str | None
) -> None:
    good = features(6, 8).tolist()
    rows = [(0, good[0]), (1, None), (2, good[2]), (3, good[3][:5])]
    df = spark.createDataFrame(rows, "id long, x array<float>").coalesce(1)
    made = kvspark.udf(mlp, output=output, on_bad_row="null")
    by_udf = df.select("id", made("x").alias("y"))
    names = ["scores", "label"] if output is None else [output]
    if output is None:
        by_udf = by_udf.select("id", "y.*")
    by_score = score(df, mlp, on_bad_row="null").select("id", *names)
    expected = by_id(by_score)
    assert [row[1] is None for row in expected] == [False, True, False, True]
    assert [tuple(row) for row in by_id(by_udf)] == [tuple(r) for r in expected]


def test_whole_numbers_beside_a_bad_row_stay_exact(spark: SparkSession) -> None:
    model = Model.from_torch(Shifted().eval(), {"ids": torch.zeros(4, 2, dtype=torch.int64)})
    df = spark.createDataFrame([([1, 2],), (None,), ([3, 4],)], "ids array<long>").coalesce(1)
    made = df.select(kvspark.udf(model, on_bad_row="null")("ids").alias("y")).collect()
    assert [row.y for row in made] == [2**60 + 3, None, 2**60 + 7]


def test_a_quarantine_is_refused(spark: SparkSession, mlp: Model) -> None:
    with pytest.raises(UsageError, match="expected error or null, got 'quarantine'"):
        kvspark.udf(mlp, on_bad_row="quarantine")  # type: ignore[arg-type] # What is tested.


def test_rows_of_a_batch_of_nulls_alone_are_bad_and_no_more(spark: SparkSession) -> None:
    """pandas does not know the type of a column that has nothing but nulls."""
    spec, output = TensorSpec("x", "bool", ()), TensorSpec("output", "bool", ())
    model = Model.from_callable(same, fingerprint="1", inputs=[spec], outputs=[output])
    df = spark.createDataFrame([(None,), (None,)], "x boolean").coalesce(1)
    made = df.select(kvspark.udf(model, on_bad_row="null")("x").alias("y")).collect()
    assert [row.y for row in made] == [None, None]
