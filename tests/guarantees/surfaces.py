"""The surfaces on which a model is used: each gives the bits of one output for some rows, in their order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession

import kvspark
from kvspark.config.job import JobConfig
from kvspark.infer.model import Model
from kvspark.spark.jobs.job import run_score
from kvspark.spec import BINARY, STRING
from tests.guarantees.sources import bits
from tests.redis_server import PATIENT_MS
from tests.spark.by_id import by_id
from tests.spark.small_jobs import job, published

Bits = list[bytes | None]
Surface = Callable[[Model, str, Sequence[Any], str, str | None], Bits]
"""Scores rows of a Spark type, and gives one output; a bad row has no bits. The last is a cache's URL."""


def cache_of(model: Model, url: str | None) -> Any:
    """The cache at `url` in a namespace of the model's own, which all surfaces share."""
    if url is None:
        return None
    return kvspark.Cache.connect(url, namespace=model.name, timeout_ms=PATIENT_MS)


def by_predict(model: Model, output: str, rows: Sequence[Any], type_: str, url: str | None) -> Bits:
    del type_
    name = model.inputs[0].name
    made = model.predict({name: rows}, cache=cache_of(model, url), threads=1, on_bad_row="null")
    return [bits(value) for value in made[output]]


def frame(spark: SparkSession, rows: Sequence[Any], type_: str) -> DataFrame:
    """`id` and `value` in two partitions."""
    table = list(enumerate(rows))
    return spark.createDataFrame(table, f"id bigint, value {type_}").repartition(2, "id")


def by_score(spark: SparkSession, **options: Any) -> Surface:
    """With `options` of `kvspark.score` besides; a cache among them is used instead of the URL's."""

    def run(model: Model, output: str, rows: Sequence[Any], type_: str, url: str | None) -> Bits:
        scored = frame(spark, rows, type_).transform(
            kvspark.score,
            model,
            inputs={model.inputs[0].name: "value"},
            outputs={output: "made"},
            **{"cache": cache_of(model, url), "on_bad_row": "null", **options},
        )
        return [bits(row.made) for row in by_id(scored)]

    return run


def by_udf(spark: SparkSession, **options: Any) -> Surface:
    """With `options` as those of `by_score`."""

    def run(model: Model, output: str, rows: Sequence[Any], type_: str, url: str | None) -> Bits:
        given = {"cache": cache_of(model, url), "on_bad_row": "null", **options}
        made = kvspark.udf(model, output=output, **given)
        scored = frame(spark, rows, type_).select("id", made("value").alias("made"))
        return [bits(row.made) for row in by_id(scored)]

    return run


def _run(conf: JobConfig, spark: SparkSession) -> None:
    run_score(conf, spark=spark)


def by_job(
    spark: SparkSession,
    folder: Path,
    *,
    plan: Mapping[str, Any] | None = None,
    runs: Callable[[JobConfig, SparkSession], None] = _run,
) -> Surface:
    """With `plan` in the conf; `runs` publishes its output."""

    def run(model: Model, output: str, rows: Sequence[Any], type_: str, url: str | None) -> Bits:
        home = folder / (url or "none").rpartition(":")[2].replace("/", "_")
        if not Model.is_saved_at(folder / "model"):
            model.save(folder / "model")
        if not (folder / "night").exists():
            (folder / "night").mkdir()
            spec = model.inputs[0]
            item = {STRING: pa.string(), BINARY: pa.binary()}.get(spec.dtype)
            value = item or pa.list_(getattr(pa, spec.dtype)())
            columns = {"id": pa.array(range(len(rows))), "value": pa.array(rows, value)}
            pq.write_table(pa.table(columns), folder / "night/a.parquet")
        cache = {"url": url, "namespace": model.name, "timeout_ms": PATIENT_MS}
        conf = job(
            folder,
            folder / "night",
            input={"paths": [str(folder / "night")], "on_bad_row": "null"},
            inputs={model.inputs[0].name: "value"},
            outputs={output: "made"},
            output={"path": str(home)},
            plan=plan or {},
            **({} if url is None else {"cache": cache}),
        )
        runs(conf, spark)
        return [bits(value) for value in published(home)["made"].to_pylist()]

    return run
