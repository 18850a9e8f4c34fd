"""Ways to embed the texts of a night, each measured in a process of its own.

    python -m tests.bench.contestants NAME NIGHT OUT [--rows N]

writes `OUT/vectors.npy`, float32 (rows, 384) in the order of the night, and prints one line of JSON:
the seconds of each timed pass. What every contestant may do before the clock starts: start Python
and the JVM, load the model, and embed a few other texts.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kvspark.demo.classifier import MAX_LENGTH, WIDTH, encoder_folder, load_trunk

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

BATCH_SIZE = 32
CORES = 2

Seconds = dict[str, float]
"""By pass: `cold`, and `warm` where there is a cache."""


def sentence_transformers(texts: pa.Table, out: Path) -> Seconds:
    """`SentenceTransformer.encode` in this process, on both cores; it sorts the texts by length."""
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(CORES)
    encoder = SentenceTransformer(str(encoder_folder()), device="cpu")
    encoder.encode(other_texts()["text"].to_pylist(), batch_size=BATCH_SIZE)
    started = time.perf_counter()
    vectors = encoder.encode(texts["text"].to_pylist(), batch_size=BATCH_SIZE)
    seconds = time.perf_counter() - started
    np.save(out / "vectors.npy", vectors)
    return {"cold": seconds}


def predict_batch_udf(texts: pa.Table, out: Path) -> Seconds:
    """Spark's own `predict_batch_udf`, with the tokenizer in it: one thread a task."""
    from pyspark.ml.functions import predict_batch_udf as udf
    from pyspark.sql.types import ArrayType, FloatType

    embed = udf(make_predict_fn, return_type=ArrayType(FloatType()), batch_size=BATCH_SIZE)
    return _on_spark(texts, out, ["cold"], lambda df: df.withColumn("embedding", embed("text")))


def make_predict_fn() -> Callable[[np.ndarray], np.ndarray]:
    """What a user of `predict_batch_udf` writes for a text encoder."""
    import torch
    from transformers import AutoTokenizer

    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(encoder_folder())
    encoder = load_trunk()

    def predict(texts: np.ndarray) -> np.ndarray:
        tokens = tokenizer(
            list(texts), padding=True, truncation=True, max_length=MAX_LENGTH, return_tensors="pt"
        )
        with torch.inference_mode():
            vectors: np.ndarray = encoder(tokens["input_ids"], tokens["attention_mask"]).numpy()
        return vectors

    return predict


def kvspark_without_cache(texts: pa.Table, out: Path) -> Seconds:
    """`kvspark.score` with no cache."""
    import kvspark

    model = kvspark.Model.from_pretrained(encoder_folder())
    return _on_spark(texts, out, ["cold"], lambda df: kvspark.score(df, model))


def kvspark_with_redis(texts: pa.Table, out: Path) -> Seconds:
    """`kvspark.score` with a Redis of its own: empty, and then with every row in it."""
    import kvspark

    model = kvspark.Model.from_pretrained(encoder_folder())
    cache = kvspark.Cache.connect(f"embedded:{out / 'cache'}", namespace="bench")
    return _on_spark(texts, out, ["cold", "warm"], lambda df: kvspark.score(df, model, cache=cache))


CONTESTANTS = {
    each.__name__: each
    for each in (
        sentence_transformers,
        predict_batch_udf,
        kvspark_without_cache,
        kvspark_with_redis,
    )
}


def other_texts() -> pa.Table:
    """Rows to warm up with, which no night has."""
    numbers = range(4 * BATCH_SIZE)
    texts = [f"warming up: the {'very ' * (number % 20)}first text" for number in numbers]
    return pa.table({"id": list(map(str, numbers)), "text": texts})


def _on_spark(
    texts: pa.Table, out: Path, passes: list[str], embed: Callable[[DataFrame], DataFrame]
) -> Seconds:
    """The seconds from Parquet to Parquet, once for each of `passes`, in one warm session."""
    with _session(out) as spark:
        _embed(spark, other_texts(), out / "warm-up", embed)
        seconds = {name: _embed(spark, texts, out / name, embed) for name in passes}
    result = pq.read_table(out / "cold", columns=["id", "embedding"]).sort_by("id")
    order = np.argsort(np.array(texts["id"].to_pylist()), kind="stable")
    flat = result["embedding"].combine_chunks().flatten().to_numpy().reshape(-1, WIDTH)
    vectors = np.empty_like(flat)
    vectors[order] = flat
    np.save(out / "vectors.npy", vectors)
    return seconds


@contextmanager
def _session(out: Path) -> Iterator[SparkSession]:
    from kvspark.config.job import SparkConfig
    from kvspark.spark.session.session import open_session

    conf = {
        "spark.sql.warehouse.dir": str(out / "warehouse"),
        # A night is smaller than what Spark takes for one task by default: one for each core.
        "spark.sql.files.openCostInBytes": "4096",
    }
    spark = open_session(SparkConfig(master=f"local[{CORES},4]", conf=conf), name="kvspark-bench")
    try:
        yield spark
    finally:
        spark.stop()


def _embed(
    spark: SparkSession, texts: pa.Table, out: Path, embed: Callable[[DataFrame], DataFrame]
) -> float:
    """Writes `texts`, then the seconds it takes to read them, embed them and write that."""
    source = out.with_name(f"{out.name}.parquet")
    pq.write_table(texts, source, row_group_size=-(-texts.num_rows // (2 * CORES)))
    df = spark.read.parquet(str(source)).select("id", "text")
    if df.rdd.getNumPartitions() != CORES:
        raise SystemExit(f"{df.rdd.getNumPartitions()} tasks for {CORES} cores; nothing to compare")
    started = time.perf_counter()
    embed(df).write.mode("overwrite").parquet(str(out))
    return time.perf_counter() - started


def main() -> None:
    """Runs one contestant."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=CONTESTANTS)
    parser.add_argument("night", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", type=int)
    asked = parser.parse_args()
    texts = pq.read_table(asked.night, columns=["id", "text"])
    texts = texts.slice(0, asked.rows) if asked.rows else texts
    asked.out.mkdir(parents=True)
    seconds = CONTESTANTS[asked.name](texts, asked.out)
    print(json.dumps({"rows": texts.num_rows, "seconds": seconds}))


if __name__ == "__main__":
    main()
