"""Inputs of one row that differ in length, by way of Spark: `score` and `udf` give what `predict` gives."""

from __future__ import annotations

import numpy as np
import pytest
from pyspark.sql import SparkSession

import kvspark
from tests.infer.test_lengths_apart import LENGTHS, Crossed, by_module, made_of, rows_of
from tests.small_models import seeded
from tests.spark.by_id import by_id

pytestmark = pytest.mark.spark

NAMES = ("source", "target")


def test_score_and_udf_give_the_rows_of_predict_where_lengths_differ(spark: SparkSession) -> None:
    model, rows = made_of(Crossed(), NAMES), rows_of(NAMES, LENGTHS)
    expected = model.predict(rows, threads=1)
    table = [(i, *(rows[name][i].tolist() for name in NAMES)) for i in range(len(LENGTHS))]
    kind = "array<array<float>>"
    df = spark.createDataFrame(table, f"id long, source {kind}, target {kind}").repartition(2)
    scored = by_id(kvspark.score(df, model))
    by_udf = df.select("id", kvspark.udf(model)(*NAMES).alias("y")).select("id", "y.*")
    for by in (scored, by_id(by_udf)):
        for i, row in enumerate(by):
            assert np.array(row["pooled"], "float32").tobytes() == expected["pooled"][i].tobytes()
            assert np.array(row["tokens"], "float32").tobytes() == expected["tokens"][i].tobytes()
            assert len(row["tokens"]) == LENGTHS[i][1]
    own = [by_module(seeded(Crossed()), rows, i)["pooled"] for i in range(len(LENGTHS))]
    np.testing.assert_allclose(expected["pooled"], own, rtol=1e-5, atol=1e-6)
