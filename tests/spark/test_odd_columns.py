"""Columns that the model never reads: whatever their names and types, they come out as they went in."""

from __future__ import annotations

import pytest
from chispa import assert_df_equality
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

import kvspark
from kvspark.errors import SchemaError
from kvspark.infer.model import Model
from kvspark.spark.columns.input_parts import InputOf
from kvspark.spark.scoring.score import score
from tests.spark.echo import echo

pytestmark = pytest.mark.spark


@pytest.fixture(scope="module")
def model() -> Model:
    return echo()


def test_a_self_join_is_scored_as_plain_spark_gives_it(spark: SparkSession, model: Model) -> None:
    left = spark.range(5).withColumn("v", F.array(*[F.col("id").cast("float")] * 3)).alias("l")
    df = left.join(spark.range(5).alias("r"), F.col("l.id") == F.col("r.id"))
    made = score(df, model, inputs={"amounts": "v"})
    assert made.columns == ["id", "v", "id", "output"]
    assert_df_equality(
        made.toDF("a", "b", "c", "d").drop("d"), df.toDF("a", "b", "c"), ignore_row_order=True
    )
    with pytest.raises(SchemaError, match="column 'id' is there 2 times"):
        score(df, model, inputs={"amounts": ["id", "id", "id"]})
    by_column: dict[str, InputOf] = {
        "amounts": {"columns": [F.col("l.id"), F.col("r.id"), {"expr": "l.id"}], "cast": "float"}
    }
    assert score(df, model, inputs=by_column).count() == 5


def test_odd_names_pass_through(spark: SparkSession, model: Model) -> None:
    names = ["id", "ID", "a.b", "`", "", "x", "x", "c`.d"]
    df = spark.range(3).select(
        *(F.lit(n).cast("short").alias(name) for n, name in enumerate(names))
    )
    made = score(df, model, inputs={"amounts": ["id", "a.b", "c`.d"]})
    assert made.columns == [*names, "output"]
    assert [tuple(row) for row in made.collect()] == [(*range(8), [0.0, 2.0, 7.0])] * 3
    by_udf = df.select("*", kvspark.udf(model)(F.array(*[F.lit(1.0).cast("float")] * 3)).alias("y"))
    assert by_udf.columns == [*names, "y"]
    assert by_udf.count() == 3


ODD = {
    "months": "interval '1-2' year to month",
    "year": "interval '-3' year",
    "least": "interval '-178956970-8' year to month",
    "clock": "cast('2147483647 months -2147483648 days 2562047788 hours 54 seconds' AS interval)",
    "before": "make_interval(-1, 2, -3, 4, -5, 6, -7.000001)",
    "days": "interval '1 02:03:04.5' day to second",
    "inside": "named_struct('a', array(interval '14' month, null), 'b', map('k', make_interval(1)))",
    "none": "CAST(NULL AS interval year)",
    "nothing": "null",
    "empty": "array()",
    "variant": 'parse_json(\'{"a": [1, "x"]}\')',
    "local": "timestamp_ntz'2020-01-01 00:00:00.123456'",
    "padded": "cast('ab' AS char(5))",
}


@pytest.mark.parametrize("name", ODD)
def test_a_type_that_arrow_lacks_passes_through(
    spark: SparkSession, model: Model, name: str
) -> None:
    df = spark.range(2).select(
        "id",
        F.array(*[F.lit(1.0).cast("float")] * 3).alias("amounts"),
        F.expr(ODD[name]).alias("odd"),
    )
    made = score(df, model)
    kinds = [frame.schema["odd"].dataType.simpleString() for frame in (df, made)]
    assert kinds[0] == kinds[1]
    texts = [frame.selectExpr("to_json(struct(odd)) AS t").collect() for frame in (df, made)]
    assert texts[0] == texts[1]
    assert made.select("output").first() == ([1.0, 1.0, 1.0],)


def test_what_cannot_be_carried_is_refused_by_name(spark: SparkSession, model: Model) -> None:
    odd = F.expr("named_struct('a', interval '1' year, 'A', 1)").alias("odd")
    df = spark.range(1).select(F.array(*[F.lit(1.0).cast("float")] * 3).alias("amounts"), odd)
    with pytest.raises(SchemaError, match="column 'odd' has type struct<a:interval year,A:int>"):
        score(df, model)
