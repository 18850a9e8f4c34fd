"""What scores with Spark: one session of two cores, from Parquet to Parquet, one thread a task."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import pandas_udf
from pyspark.sql.types import ArrayType, DataType, FloatType

from kvspark.config.job import SparkConfig
from kvspark.spark.session.session import open_session
from tests.bench.beside.plain import Predict, predictor
from tests.bench.beside.workload import CORES, Night, Workload, stacked, table_path

Score = Callable[[Night, Path], None]
"""Reads the table of a night, scores it and writes `id` and `output` into a folder."""

Embed = Callable[[DataFrame, Night], DataFrame]

REDIS_KEYS_A_CALL = 1_024


@contextmanager
def spark_session(out: Path) -> Iterator[SparkSession]:
    """A session of two cores with one task for each; one that runs already is used as it is, and left."""
    running = SparkSession.getActiveSession()
    if running is not None:
        yield running
        return
    conf = {
        "spark.sql.warehouse.dir": str(out / "warehouse"),
        # A night is smaller than what Spark takes for one task by default: one for each core.
        "spark.sql.files.openCostInBytes": "4096",
        "spark.sql.shuffle.partitions": str(CORES),
        "spark.driver.memory": "3g",
    }
    spark = open_session(SparkConfig(master=f"local[{CORES},4]", conf=conf), name="kvspark-bench")
    try:
        yield spark
    finally:
        spark.stop()


def on_spark(spark: SparkSession, folder: Path, embed: Embed) -> Score:
    """Scores with `embed`, which adds the column `output`."""

    def score(night: Night, target: Path) -> None:
        df = spark.read.parquet(str(table_path(folder, night)))
        embed(df, night).select("id", "output").write.mode("overwrite").parquet(str(target))

    return score


def output_type(work: Workload) -> DataType:
    """The type of the column `output`."""
    return FloatType() if work.width == 1 else ArrayType(FloatType())


def sparks_udf(work: Workload, folder: Path, head: int, rows: int) -> Callable[..., Any]:
    """Spark's `predict_batch_udf` over the plain model."""
    from pyspark.ml.functions import predict_batch_udf

    def make_predict_fn() -> Callable[..., np.ndarray]:
        predict = predictor(str(folder), head, 1)
        # Spark counts the parameters: one for each column.
        if len(work.columns) == 1:
            return lambda only: predict({work.columns[0]: only})
        return lambda left, right: predict(dict(zip(work.columns, (left, right), strict=True)))

    shapes: Any = [[width] if width else None for width in work.widths]
    return predict_batch_udf(
        make_predict_fn,
        return_type=output_type(work),
        batch_size=rows,
        input_tensor_shapes=shapes if any(work.widths) else None,
    )


@contextmanager
def predict_batch_udf(
    work: Workload, folder: Path, out: Path, *, rows: int | None = None
) -> Iterator[Score]:
    """Spark's own, in batches of `rows`: 32 texts, or as many rows as the workload says."""
    rows = rows or (32 if work.kind == "texts" else work.call_rows)
    udfs = {head: sparks_udf(work, folder, head, rows) for head in work.heads}
    with spark_session(out) as spark:
        yield on_spark(
            spark,
            folder,
            lambda df, night: df.withColumn("output", udfs[night.head](*work.columns)),
        )


def predict_batch_udf_sorted(work: Workload, folder: Path, out: Path) -> Any:
    """The same in batches of 1,000 texts, which the encoder sorts by length."""
    return predict_batch_udf(work, folder, out, rows=1_000)


@contextmanager
def pandas_udf_and_redis(work: Workload, folder: Path, out: Path) -> Iterator[Score]:
    """A pandas UDF that asks Redis first, by MGET and MSET in pipelines, written by hand."""
    from tests.redis_server import running_redis

    def udf_of(head: int, url: str) -> Callable[..., Any]:
        @pandas_udf(output_type(work))  # type: ignore[call-overload]
        def score(batches: Iterator[tuple[pd.Series, ...]]) -> Iterator[pd.Series]:
            import redis

            client = redis.Redis.from_url(url)
            predict = predictor(str(folder), head, 1)
            for batch in batches:
                # Spark passes one column as it is, and several as a tuple.
                columns = batch if isinstance(batch, tuple) else (batch,)
                yield _remembered(work, columns, f"{work.name} {head} ".encode(), client, predict)

        made: Callable[..., Any] = score
        return made

    with running_redis() as server, spark_session(out) as spark:
        udfs = {head: udf_of(head, server.url) for head in work.heads}
        yield on_spark(
            spark,
            folder,
            lambda df, night: df.withColumn("output", udfs[night.head](*work.columns)),
        )


def _remembered(
    work: Workload, batch: tuple[pd.Series, ...], model: bytes, client: Any, predict: Predict
) -> pd.Series:
    """The outputs of an Arrow batch: those of Redis, and those of the plain model for what it lacks."""
    given = {
        name: stacked(series.to_numpy(), width)
        for name, series, width in zip(work.columns, batch, work.widths, strict=True)
    }
    keys = list(_keys(given, model))
    pipeline = client.pipeline(transaction=False)
    for begin in range(0, len(keys), REDIS_KEYS_A_CALL):
        pipeline.mget(keys[begin : begin + REDIS_KEYS_A_CALL])
    known = dict(zip(keys, (value for reply in pipeline.execute() for value in reply), strict=True))
    missing = {key: row for row, key in enumerate(keys) if known[key] is None}
    if missing:
        rows = np.array(list(missing.values()))
        made = predict({name: values[rows] for name, values in given.items()})
        values = {key: row.tobytes() for key, row in zip(missing, made.astype("<f4"), strict=True)}
        known |= values
        items = list(values.items())
        for begin in range(0, len(items), REDIS_KEYS_A_CALL):
            pipeline.mset(dict(items[begin : begin + REDIS_KEYS_A_CALL]))
        pipeline.execute()
    outputs = np.frombuffer(b"".join(known[key] for key in keys), dtype="<f4")
    return (
        pd.Series(outputs) if work.width == 1 else pd.Series(list(outputs.reshape(len(keys), -1)))
    )


def _keys(given: Mapping[str, np.ndarray], model: bytes) -> Iterator[bytes]:
    """A digest of each row's inputs, all of fixed size or one alone: joining them is safe."""
    for row in zip(*given.values(), strict=True):
        hashed = hashlib.blake2b(model, digest_size=16)
        for cell in row:
            hashed.update(cell.encode() if isinstance(cell, str) else cell)
        yield hashed.digest()


@contextmanager
def anti_join(work: Workload, folder: Path, out: Path) -> Iterator[Score]:
    """Rows whose id and content are in yesterday's output are taken from it; the rest is scored."""
    rows = 1_000 if work.kind == "texts" else work.call_rows
    udfs = {head: sparks_udf(work, folder, head, rows) for head in work.heads}
    yesterday: dict[int, Path] = {}
    with spark_session(out) as spark:

        def score(night: Night, target: Path) -> None:
            df = spark.read.parquet(str(table_path(folder, night)))
            df = df.withColumn("content", F.xxhash64(*work.columns))
            new, kept = df, None
            # What another head made is of no use.
            if night.head in yesterday:
                old = spark.read.parquet(str(yesterday[night.head]))
                kept = df.select("id", "content").join(old, ["id", "content"])
                known = old.select("id", "content")
                new = df.join(known, ["id", "content"], "left_anti").repartition(CORES)
            scored = new.withColumn("output", udfs[night.head](*work.columns))
            scored = scored.select("id", "content", "output")
            whole = scored if kept is None else scored.unionByName(kept)
            whole.write.mode("overwrite").parquet(str(target))
            yesterday[night.head] = target

        yield score


@contextmanager
def mlflow_spark_udf(work: Workload, folder: Path, out: Path) -> Iterator[Score]:
    """`mlflow.pyfunc.spark_udf`, which passes whole Arrow batches; the model makes its own calls of them."""
    import mlflow

    from tests.bench.beside.mlflow_model import PlainModel

    (out / "models").mkdir()
    with spark_session(out) as spark:
        udfs = {}
        for head in work.heads:
            path = out / "models" / str(head)
            model = PlainModel(str(folder), head)
            mlflow.pyfunc.save_model(path=str(path), python_model=model, pip_requirements=[])
            udfs[head] = mlflow.pyfunc.spark_udf(
                spark, str(path), result_type=output_type(work), env_manager="local"
            )
        yield on_spark(
            spark,
            folder,
            lambda df, night: df.withColumn("output", udfs[night.head](F.struct(*work.columns))),
        )
