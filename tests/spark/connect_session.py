"""A session of Spark Connect with a server of its own, and what kvspark does in it; run as a program.

Prints one JSON object. Spark allows one session of either kind in a process, so the tests start this.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession

import kvspark
from kvspark.errors import UsageError
from kvspark.infer.model import Model
from kvspark.spark.runs.tally import Tally
from tests.redis_server import PATIENT_MS
from tests.spark.by_id import by_id


def main(folder: Path, store: str) -> dict[str, Any]:
    """What the ways give for the model in `folder`, whose weights this host does not have yet."""
    spark = SparkSession.builder.remote("local[2]").getOrCreate()
    model = Model.load(folder)
    rows = [(i, [float(i % 7) - 3.0] * 8) for i in range(100)]
    df = spark.createDataFrame(rows, "id long, x array<float>")
    cache = kvspark.Cache.connect(store, namespace="connect", timeout_ms=PATIENT_MS)
    told: dict[str, Any] = {"session": type(spark).__module__, "scores": {}, "ended": 0}

    def progress(*, done: bool, **_: object) -> None:
        told["ended"] += done

    spark.registerProgressHandler(progress)
    ways: list[tuple[str, dict[str, Any]]] = [
        ("default", {}),
        ("again", {}),
        ("path", {"weights": "path"}),
        ("redis", {"weights": "redis", "cache": cache}),
        ("hits", {"cache": cache}),
    ]
    for name, arguments in ways:
        scored = df.transform(kvspark.score, model, **arguments)
        told["scores"][name] = [row.scores for row in by_id(scored)]
    made = df.select("id", kvspark.udf(model, output="scores")("x").alias("scores"))
    told["scores"]["udf"] = [row.scores for row in by_id(made)]
    columns, joined = _joined(df, model)
    told["scores"].update(joined)
    chance = {"x": [{"expr": "rand()", "cast": "float"}] * 8}
    refusing: list[Callable[[], object]] = [
        lambda: kvspark.score(df, model, weights="broadcast"),
        lambda: Tally(spark),
        lambda: kvspark.score(columns, model, inputs=chance),
    ]
    told["refused"] = [_refusal(call) for call in refusing]
    spark.stop()
    return told


def _joined(df: DataFrame, model: Model) -> tuple[DataFrame, dict[str, Any]]:
    """Columns of one number, and what two ways give for the input that they are joined to."""
    columns = df.selectExpr("id", "x[0] AS a", "double(x[0]) AS b")
    inputs: dict[str, Any] = {
        "x": ["a", {"column": "b", "cast": "float"}, {"expr": "a"}, *["a"] * 5]
    }
    joined = columns.transform(kvspark.score, model, inputs=inputs)
    scored = [row.scores for row in by_id(joined)]
    bound = kvspark.udf(model, output="scores", inputs=inputs)
    bound_rows = columns.select("id", bound().alias("scores"))
    by_udf = [row.scores for row in by_id(bound_rows)]
    return columns, {"joined": scored, "joined udf": by_udf}


def _refusal(call: Callable[[], object]) -> str:
    try:
        call()
    except UsageError as error:
        return str(error)
    return "nothing"


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2])))
