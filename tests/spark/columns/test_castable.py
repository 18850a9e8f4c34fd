"""Which columns a cast makes a number: Spark itself is asked."""

from __future__ import annotations

import pytest
from pyspark.errors import AnalysisException
from pyspark.sql import SparkSession
from pyspark.sql.types import ArrayType

from kvspark.errors import SchemaError, UsageError
from kvspark.spark.columns.castable import is_castable, leaf_of
from kvspark.spark.scoring.score import score
from tests.spark.echo import echo

pytestmark = pytest.mark.spark

COLUMNS = {
    "bool": "true",
    "tiny": "1Y",
    "long": "1L",
    "dec": "1.5",
    "float": "1F",
    "double": "1D",
    "text": "'1'",
    "bytes": "X'01'",
    "day": "date'2026-01-01'",
    "time": "timestamp'2026-01-01 00:00:00'",
    "ntz": "timestamp_ntz'2026-01-01 00:00:00'",
    "days": "interval '1' day",
    "hours": "interval '1 02' day to hour",
    "months": "interval '1' month",
    "st": "named_struct('x', 1F)",
    "mp": "map('a', 1F)",
    "nothing": "null",
    "arr": "array(1D)",
}
ONE = echo(width=1)
CASTS = ("boolean", "tinyint", "smallint", "int", "bigint", "float", "double", "string")


def test_what_can_be_cast_is_what_spark_casts(spark: SparkSession) -> None:
    df = spark.sql("SELECT " + ", ".join(f"{value} AS {name}" for name, value in COLUMNS.items()))
    taken: list[str] = []
    refused: list[str] = []
    for field in df.schema.fields:
        kind = leaf_of(field.dataType)
        assert kind is not None
        for cast in CASTS:
            asked = f"array<{cast}>" if isinstance(field.dataType, ArrayType) else cast
            where = taken if is_castable(kind, cast) else refused
            where.append(f"try_cast({field.name} AS {asked})")
    df.selectExpr(*taken)
    for each in refused:
        if each.endswith((" boolean)", " bigint)", " float)")):  # one of each kind of number
            with pytest.raises(AnalysisException):
                df.selectExpr(each)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("day", "has type date, which no cast makes a float; name {expr: unix_date(COLUMN)}"),
        ("st", "which no cast makes a float; name a field of it, {expr: COLUMN.FIELD}"),
        ("mp", "which no cast makes a float; name an entry of it, {expr: \"COLUMN['KEY']\"}"),
        ("bytes", "which no cast makes a float; name {expr: ...} that gives one"),
    ],
)
@pytest.mark.parametrize("cast", [None, "float"])
def test_what_no_cast_makes_a_number_says_what_does(
    spark: SparkSession, name: str, advice: str, cast: str | None
) -> None:
    df = spark.sql(f"SELECT {COLUMNS[name]} AS a")
    for given in ({"column": "a", "cast": cast}, {"expr": "a", "cast": cast}):
        with pytest.raises(SchemaError) as caught:
            score(df, ONE, inputs={"amounts": [given]})
        assert advice in str(caught.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("st.x", "there is no column 'st.x'; for a field of 'st' write {expr: st.x}"),
        ("`a`", "there is no column '`a`'; write 'a', without backticks"),
        ("A", "there is no column 'A'; did you mean 'a'?"),
        ("amuont", "there is no column 'amuont'; did you mean 'amount'?"),
        ("zzzz", "the table has amount, a, st, c0, c1, c2, c3, c4, c5, c6, c7, c8, … (31 more)"),
    ],
)
def test_a_column_that_is_not_there_is_told_with_the_nearest(
    spark: SparkSession, given: str, message: str
) -> None:
    many = ", ".join(f"{n} AS c{n}" for n in range(40))
    df = spark.sql(f"SELECT 1F AS amount, 1F AS a, named_struct('x', 1F) AS st, {many}")
    with pytest.raises(SchemaError) as caught:
        score(df, ONE, inputs={"amounts": [given]})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("expr", "message"),
    [
        ("a +", "it cannot be read at or near"),
        ("amuont + a", "there is no column 'amuont'; did you mean 'amount'?"),
        ("nosuch(a)", "there is no function `nosuch`"),
        ("(select max(a) from t)", "reads other rows by a SELECT of its own"),
    ],
)
def test_an_expression_that_spark_refuses_is_told_in_a_line(
    spark: SparkSession, expr: str, message: str
) -> None:
    df = spark.sql("SELECT 1F AS amount, 1F AS a")
    with pytest.raises(UsageError) as caught:
        score(df, ONE, inputs={"amounts": [{"expr": expr}]})
    assert message in str(caught.value)
    assert len(caught.value.line()) < 300


def test_one_number_in_a_list_is_told_to_stand_without_it(spark: SparkSession) -> None:
    df = spark.sql("SELECT 1F AS a")
    with pytest.raises(SchemaError, match="takes 2 values a row, and 1 column is joined to it"):
        score(df, echo(width=2), inputs={"amounts": ["a"]})
    with pytest.raises(SchemaError, match=r"takes one number a row.*; write it without the list"):
        score(df, echo(width=None), inputs={"amounts": ["a"]})


def test_an_output_needs_a_name(spark: SparkSession) -> None:
    df = spark.sql("SELECT 1F AS a")
    with pytest.raises(UsageError, match="give it a name"):
        score(df, ONE, inputs={"amounts": ["a"]}, outputs={"output": ""})
