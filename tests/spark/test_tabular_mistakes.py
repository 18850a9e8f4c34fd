"""What is told of columns that are no input as they stand: all at once, and how to write it."""

from __future__ import annotations

import pytest
from pyspark.sql import SparkSession

from kvspark.errors import SchemaError
from kvspark.spark.columns.input_parts import InputOf
from kvspark.spark.scoring.score import score
from tests.spark.echo import echo

pytestmark = pytest.mark.spark


def test_all_columns_that_need_a_cast_are_told_at_once(spark: SparkSession) -> None:
    df = spark.sql("SELECT 1D AS a, 1 AS b, 1S AS c")
    with pytest.raises(SchemaError) as caught:
        score(df, echo(), inputs={"amounts": ["a", "b", "c"]})
    assert "column 'a' has type double, column 'b' has type int, which" in str(caught.value)
    score(df, echo(), inputs={"amounts": {"columns": ["a", "b", "c"], "cast": "float"}})


@pytest.mark.parametrize(
    "given", ["a", {"column": "a", "cast": "float"}, {"expr": "a + 1", "cast": "float"}]
)
def test_one_number_for_an_input_that_is_a_list_says_how_to_write_it(
    spark: SparkSession, given: InputOf
) -> None:
    df = spark.sql("SELECT 1F AS a")
    with pytest.raises(SchemaError) as caught:
        score(df, echo(), inputs={"amounts": given})
    assert "by a list, also one alone: inputs: {amounts: [...]}" in str(caught.value)
    assert "_kvspark" not in str(caught.value)
