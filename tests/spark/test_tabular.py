"""Model inputs that are made of columns: joined, cast, computed, and with defaults for nulls."""

from __future__ import annotations

import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyspark.errors import PythonException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

import kvspark
from kvspark.errors import DataError, SchemaError, UsageError
from kvspark.infer.model import Model
from kvspark.plan.plan import Plan, StagePlan
from kvspark.spark.columns.input_parts import InputOf
from kvspark.spark.jobs.job import run_score
from kvspark.spark.scoring.score import score
from tests.spark.echo import Echo, echo
from tests.spark.small_jobs import job, published

pytestmark = pytest.mark.spark

INPUTS: dict[str, InputOf] = {"amounts": ["amount", "fee", {"column": "tax", "default": 0.5}]}


@pytest.fixture(scope="module")
def model() -> Model:
    return echo()


def seen(df: DataFrame, model: Model, inputs: dict[str, InputOf], **options: Any) -> np.ndarray:
    """What the model saw of each row of `df`, in the order of `id`."""
    made = score(df, model, inputs=inputs, **options).select("id", "output").toArrow().sort_by("id")
    return np.array(made["output"].to_pylist())


def numbers(spark: SparkSession, rows: int = 400) -> tuple[DataFrame, np.ndarray]:
    """Columns of several types, and the float32 (rows, 3) that amount, fee and tax are together."""
    rng = np.random.default_rng(5)
    amount = rng.integers(-(2**15), 2**15, rows).astype("int16")
    fee = rng.standard_normal(rows).astype("float32")
    fee[:6] = [np.nan, -0.0, np.inf, -np.inf, 1e-45, 3.4e38]
    tax = [None if i % 3 == 0 else int(i % 100) for i in range(rows)]
    table = pa.table(
        {"id": range(rows), "amount": amount, "fee": fee, "tax": pa.array(tax, pa.int8())}
    )
    df = spark.createDataFrame(table)
    filled = np.array([0.5 if each is None else each for each in tax])
    return df, np.stack([amount, fee, filled], axis=1).astype("float32")


def same_bits(made: np.ndarray, wanted: np.ndarray) -> bool:
    made = made.astype(wanted.dtype)
    return bool(
        np.array_equal(made, wanted, equal_nan=True)
        and np.array_equal(np.signbit(made[wanted == 0]), np.signbit(wanted[wanted == 0]))
    )


def test_joined_columns_are_what_numpy_stacks(spark: SparkSession, model: Model) -> None:
    df, wanted = numbers(spark)
    assert same_bits(seen(df, model, INPUTS), wanted)


def test_a_udf_sees_the_same(spark: SparkSession, model: Model) -> None:
    df, wanted = numbers(spark)
    made = df.select("id", kvspark.udf(model, inputs=INPUTS)().alias("y")).toArrow().sort_by("id")
    assert same_bits(np.array(made["y"].to_pylist()), wanted)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_a_cast_that_is_asked_for_rounds_as_numpy_does(spark: SparkSession, dtype: str) -> None:
    rng = np.random.default_rng(7)
    doubles = rng.standard_normal(300) * 10.0 ** rng.integers(-40, 15, 300)
    longs = rng.integers(-(2**62), 2**62, 300)
    table = pa.table({"id": range(300), "a": doubles, "b": longs, "c": longs.astype("int32")})
    model = echo(getattr(torch, dtype))
    cast = {"float32": "float", "float64": "double", "int64": "bigint"}[dtype]
    made = seen(
        spark.createDataFrame(table), model, {"amounts": {"columns": ["a", "b", "c"], "cast": cast}}
    )
    columns = [doubles.astype(dtype), longs.astype(dtype), longs.astype("int32").astype(dtype)]
    assert same_bits(made, np.stack(columns, axis=1))


def test_a_decimal_becomes_the_nearest_number(spark: SparkSession) -> None:
    rng = np.random.default_rng(11)
    exact = [Decimal(int(n)).scaleb(-9) for n in rng.integers(-(10**18) + 1, 10**18, 2000)]
    table = pa.table({"id": range(2000), "a": pa.array(exact, pa.decimal128(18, 9))})
    inputs: dict[str, InputOf] = {"amounts": {"columns": ["a", "a", "a"], "cast": "double"}}
    made = seen(spark.createDataFrame(table), echo(torch.float64), inputs)
    assert same_bits(made[:, 0], np.array([float(each) for each in exact]))


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("double", "float32"),
        ("bigint", "float32"),
        ("int", "float32"),
        ("bigint", "float64"),
        ("decimal(8,0)", "float32"),
        ("decimal(4,1)", "float64"),
        ("float", "int64"),
        ("string", "float32"),
    ],
)
def test_a_cast_that_may_lose_something_is_refused_before_nulls_are_seen(
    spark: SparkSession, kind: str, dtype: str
) -> None:
    df = spark.sql(f"SELECT 1L AS id, CAST(NULL AS {kind}) AS a, 1S AS b")
    with pytest.raises(
        SchemaError, match=r"input 'amounts': column 'a' has type .*ask for the cast"
    ) as caught:
        score(df, echo(getattr(torch, dtype)), inputs={"amounts": ["a", "b", "b"]})
    assert kind.partition("(")[0] in str(caught.value)


def test_a_udf_refuses_such_a_cast_too(spark: SparkSession, model: Model) -> None:
    df = spark.sql("SELECT 1D AS a, 1S AS b")
    with pytest.raises(
        Exception, match="column 'a' has type double, which does not become the model's float32"
    ):
        df.select(kvspark.udf(model, inputs={"amounts": ["a", "b", "b"]})()).collect()
    with pytest.raises(PythonException, match=r"the column has type list<.*double>"):
        df.select(kvspark.udf(model)(F.array("a", "a", "a"))).collect()


def test_what_loses_nothing_needs_no_word(spark: SparkSession) -> None:
    df = spark.sql("SELECT 1L AS id, true AS a, 9999999BD AS b, CAST(-128 AS tinyint) AS c")
    inputs: dict[str, InputOf] = {"amounts": ["a", "b", "c"]}
    assert seen(df, echo(), inputs).tolist() == [[1.0, 9999999.0, -128.0]]
    assert seen(df, echo(torch.int64), inputs).tolist() == [[1, 9999999, -128]]
    plain = df.select("id", F.array("c", "c", "c").alias("amounts"))
    assert seen(plain, echo(), {}).tolist() == [[-128.0] * 3]


@pytest.mark.parametrize("way", ["score", "udf"])
@pytest.mark.parametrize(
    ("value", "cast", "trouble"),
    [
        ("CAST(NULL AS double)", None, "column 'fee' is null"),
        ("1e300D", "float", "column 'fee' holds a value that is no float"),
        ("'abc'", "float", "column 'fee' holds a value that is no float"),
        ("double('NaN')", "int", "column 'fee' holds a value that is no int"),
        ("9999999999L", "int", "column 'fee' holds a value that is no int"),
    ],
)
def test_a_bad_row_names_the_column_that_is_to_blame(
    spark: SparkSession, way: str, value: str, cast: str | None, trouble: str
) -> None:
    df = spark.sql(f"SELECT 1S AS amount, {value} AS fee, 2S AS tax")
    inputs: dict[str, InputOf] = {"amounts": ["amount", {"column": "fee", "cast": cast}, "tax"]}
    model = echo(torch.float64)
    scored = (
        score(df, model, inputs=inputs)
        if way == "score"
        else df.select(kvspark.udf(model, inputs=inputs)())
    )
    # A default stands for a null, and for nothing else.
    advice = (
        "the model takes none: give a default" if "null" in trouble else "write it with an expr"
    )
    with pytest.raises(PythonException, match=f"input 'amounts': {trouble}; {advice}"):
        scored.collect()
    kept = score(df, model, inputs=inputs, on_bad_row="quarantine").first()
    assert kept is not None
    assert kept["output"] is None
    assert kept["_kvspark_error"].message == f"input 'amounts': {trouble}"
    if way == "udf":
        row = df.select(kvspark.udf(model, inputs=inputs, on_bad_row="null")().alias("y")).first()
        assert row == (None,)


def test_infinity_and_nan_are_numbers_also_where_a_cast_is_asked_for(
    spark: SparkSession, model: Model
) -> None:
    df = spark.sql("SELECT 1L AS id, double('inf') AS a, double('nan') AS b, '-Infinity' AS c")
    (row,) = seen(
        df, model, {"amounts": {"columns": ["a", "b", "c"], "cast": "float", "default": 0.0}}
    )
    assert row[0] == math.inf
    assert math.isnan(row[1])
    assert row[2] == -math.inf


def test_expressions_columns_and_arrays_are_joined_too(spark: SparkSession) -> None:
    df = spark.sql("SELECT 1L AS id, array(1.5F, 2.5F) AS v, 4S AS n")
    inputs: dict[str, InputOf] = {
        "amounts": [
            "v",
            {"expr": "n * 2 + size(v)", "cast": "float"},
            F.col("n"),
            F.col("n") + F.lit(1).cast("short"),
        ]
    }
    assert seen(df, echo(width=5), inputs).tolist() == [[1.5, 2.5, 10.0, 4.0, 5.0]]


def test_one_number_may_be_made_as_well(spark: SparkSession) -> None:
    model = Model.from_torch(
        Echo().eval(), {"amounts": torch.zeros(2, dtype=torch.int64)}, name="one"
    )
    df = spark.sql(
        "SELECT id, if(id = 1, null, id + 9007199254740993) AS big FROM range(3)"
    ).coalesce(1)
    inputs: dict[str, InputOf] = {"amounts": {"column": "big", "default": -7}}
    wanted = [9007199254740993, -7, 9007199254740995]
    assert seen(df, model, inputs).tolist() == wanted
    made = df.orderBy("id").select(kvspark.udf(model, inputs=inputs)().alias("y")).collect()
    assert [row.y for row in made] == wanted


@pytest.mark.parametrize(
    ("expr", "message"),
    [
        ("rand()", "rand is drawn by chance"),
        ("uuid()", "uuid is drawn by chance"),
        ("unix_timestamp(current_timestamp)", "current_timestamp is of the day"),
        ("monotonically_increasing_id()", "of the place where a row lies"),
        ("sum(amount)", "reads other rows|cannot be computed"),
        ("sum(amount) OVER (PARTITION BY fee)", "window over other rows"),
        ("explode(array(1))", "several rows of one"),
        ("amuont + 1", "cannot be computed for a row of this table"),
        ("amount +", "cannot be computed for a row of this table"),
    ],
)
def test_an_expression_that_varies_is_refused_by_name(
    spark: SparkSession, model: Model, expr: str, message: str
) -> None:
    df = spark.sql("SELECT 1S AS amount, 1F AS fee")
    with pytest.raises(UsageError, match=message) as caught:
        score(df, model, inputs={"amounts": ["amount", "fee", {"expr": expr, "cast": "float"}]})
    assert expr in str(caught.value)


def test_a_column_of_chance_is_refused_too(spark: SparkSession, model: Model) -> None:
    df = spark.sql("SELECT 1S AS amount")
    with pytest.raises(UsageError, match="may give another value for the same row"):
        score(df, model, inputs={"amounts": ["amount", "amount", F.rand().cast("float")]})


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        (
            {"amounts": ["amount", "fee"]},
            SchemaError,
            "takes 3 values a row, and 2 columns are joined",
        ),
        ({"amounts": ["amount", "fee", "taxes"]}, SchemaError, "there is no column 'taxes'"),
        (
            {"amounts": ["amount", "fee", {"column": "tax", "default": "x"}]},
            UsageError,
            "'x', which is no float32",
        ),
        (
            {"amounts": ["amount", "fee", {"column": "tax", "default": 1e39}]},
            UsageError,
            "which is no float32",
        ),
        (
            {"amounts": {"columns": ["amount", "fee", "tax"], "cast": "double"}},
            SchemaError,
            "is cast to double, which does not become the model's float32 without loss",
        ),
        ({"amounts": ["amount", 3.5]}, UsageError, "expected a column's name"),
        ({"amounts": {"colum": "tax"}}, UsageError, "did you mean inputs.amounts.column"),
    ],
)
def test_what_is_wrong_with_inputs_is_told_on_the_driver(
    spark: SparkSession, model: Model, inputs: Any, error: type[Exception], message: str
) -> None:
    df = spark.sql("SELECT 1S AS amount, 1F AS fee, 1S AS tax")
    with pytest.raises(error, match=message):
        score(df, model, inputs=inputs)


def test_a_udf_with_inputs_takes_no_columns_and_no_name_in_sql(
    spark: SparkSession, model: Model
) -> None:
    made = kvspark.udf(model, inputs=INPUTS)
    with pytest.raises(UsageError, match="call it with none"):
        made("amount")
    with pytest.raises(UsageError, match="cannot"):
        spark.udf.register("made", made)


def test_a_tower_is_computed_first_for_distinct_made_inputs(
    spark: SparkSession, towers: Model
) -> None:
    users = spark.range(40).selectExpr("id", "cast(id % 4 AS float) AS u", "cast(id AS float) AS i")
    inputs: dict[str, InputOf] = {"user": ["u"] * 8, "item": ["i"] * 6}
    cache = kvspark.Cache.connect("memory://", namespace="tabular")
    plan = Plan({"user": StagePlan(cached=True)}, distinct_first=("user",))
    made = score(users, towers, inputs=inputs, cache=cache, plan=plan).toArrow().sort_by("id")
    user = np.repeat(np.arange(40, dtype="float32")[:, None] % 4, 8, axis=1)
    item = np.repeat(np.arange(40, dtype="float32")[:, None], 6, axis=1)
    wanted = towers.predict({"user": user, "item": item}, threads=1)["output"]
    assert made.column_names == ["id", "u", "i", "output"]
    assert np.array(made["output"].to_pylist(), "float32").tobytes() == wanted.tobytes()


# ---------------------------------------------------------------------------------------- jobs


def test_a_job_joins_columns_and_sets_bad_rows_aside_by_column(
    spark: SparkSession, model: Model, tmp_path: Path
) -> None:
    df, wanted = numbers(spark, 60)
    df.withColumn("term", F.expr("interval '1-2' year to month")).write.parquet(
        str(tmp_path / "in")
    )
    model.save(tmp_path / "model")
    config = job(tmp_path, tmp_path / "in", inputs=INPUTS)
    assert run_score(config, spark=spark).rows_out == 60
    assert same_bits(np.array(published(tmp_path / "out")["output"].to_pylist()), wanted)
    read = spark.read.parquet(str(tmp_path / "out"))
    assert read.columns == ["id", "amount", "fee", "tax", "term", "output"]
    assert read.where("term = interval '1-2' year to month").count() == 60
    with pytest.raises(DataError, match=r"column 'tax': \d+ nulls"):
        run_score(
            job(tmp_path, tmp_path / "in", inputs={"amounts": ["amount", "fee", "tax"]}),
            spark=spark,
        )
    aside = job(
        tmp_path,
        tmp_path / "in",
        inputs={"amounts": ["amount", {"expr": "fee"}, "tax"]},
        input={"on_bad_row": "quarantine", "id": ["id"]},
    )
    report = run_score(aside, spark=spark)
    assert (report.rows_out, report.rows_quarantined) == (40, 20)
    told = (
        spark.read.parquet(str(tmp_path / "out/_kvspark/quarantine")).select("message").distinct()
    )
    assert [row.message for row in told.collect()] == ["input 'amounts': column 'tax' is null"]
