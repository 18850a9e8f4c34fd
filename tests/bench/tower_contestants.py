"""Ways to score pairs with two towers, each measured in a process of its own.

    python -m tests.bench.tower_contestants NAME FOLDER OUT

reads `FOLDER/pairs.parquet`, `others.parquet` and `towers.safetensors`, writes `OUT/scores.npy`, float32 in the
order of the ids, and prints one line of JSON: the seconds of each timed pass, and what each stage
computed. What every contestant may do before the clock starts: start Python and the JVM, and score
some other pairs.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession

import kvspark
from kvspark.config.job import SparkConfig
from kvspark.plan.plan import Plan
from kvspark.spark.runs.tally import Tally
from kvspark.spark.session.session import open_session
from kvspark.spec import MicroBatch
from tests.bench.beside.workload import CORES
from tests.bench.two_towers import BATCH_SIZE, GENRES, HISTORY, TwoTowers, catalogue

WEIGHTS = "towers.safetensors"
TOWERS = ("user_tower", "item_tower")

Score = Callable[[DataFrame, Tally], DataFrame]


def loaded(folder: Path) -> TwoTowers:
    """The trained towers."""
    from safetensors.torch import load_file

    net = TwoTowers()
    net.load_state_dict(load_file(folder / WEIGHTS))
    return net.eval()


def predict_batch_udf(folder: Path, out: Path) -> tuple[Score, list[str]]:
    """Spark's own `predict_batch_udf` on the whole model: one thread a task, batches of 1,024."""
    del out
    from pyspark.ml.functions import predict_batch_udf as udf
    from pyspark.sql.types import FloatType

    def make_predict_fn() -> Callable[..., np.ndarray]:
        import torch

        torch.set_num_threads(1)
        net = loaded(folder)

        def predict(
            user: np.ndarray, history: np.ndarray, item: np.ndarray, genres: np.ndarray
        ) -> np.ndarray:
            columns = ((user, "i8"), (history, "i8"), (item, "i8"), (genres, "f4"))
            given = [
                torch.from_numpy(np.ascontiguousarray(column, dtype=dtype))
                for column, dtype in columns
            ]
            with torch.inference_mode():
                scores: np.ndarray = net(*given).numpy()
            return scores

        return predict

    shapes: Any = [None, [HISTORY], None, [GENRES]]
    score = udf(
        make_predict_fn,
        return_type=FloatType(),
        batch_size=BATCH_SIZE,
        input_tensor_shapes=shapes,
    )
    return lambda df, _: df.withColumn("output", score("user", "history", "item", "genres")), [
        "cold"
    ]


def kvspark_without_cache(folder: Path, out: Path) -> tuple[Score, list[str]]:
    """`kvspark.score` with no cache: a worker keeps what its towers gave."""
    del out
    model = _model(folder)
    return lambda df, tally: kvspark.score(df, model, stats=tally), ["cold"]


def kvspark_with_redis(folder: Path, out: Path) -> tuple[Score, list[str]]:
    """With a Redis of its own: empty, and then with every user and item in it."""
    return _cached(folder, out, Plan())


def kvspark_distinct_first(folder: Path, out: Path) -> tuple[Score, list[str]]:
    """The same, each tower computed for its distinct inputs before a pair is scored."""
    return _cached(folder, out, Plan(distinct_first=TOWERS))


CONTESTANTS = {
    each.__name__: each
    for each in (
        predict_batch_udf,
        kvspark_without_cache,
        kvspark_with_redis,
        kvspark_distinct_first,
    )
}


def _cached(folder: Path, out: Path, plan: Plan) -> tuple[Score, list[str]]:
    model = _model(folder)
    cache = kvspark.Cache.connect(f"embedded:{out / 'cache'}", namespace="bench")
    score: Score = lambda df, tally: kvspark.score(  # noqa: E731 - two lines of one thought
        df, model, cache=cache, plan=plan, stats=tally
    )
    return score, ["cold", "warm"]


def _model(folder: Path) -> kvspark.Model:
    known = catalogue()
    examples = known.batch(np.array([0, 1]), np.array([0, 1]))
    shape = MicroBatch(rows=BATCH_SIZE)
    return kvspark.Model.from_torch(loaded(folder), examples, micro_batch=shape)


def _timed(spark: SparkSession, source: Path, out: Path, score: Score) -> tuple[float, Any]:
    """The seconds from Parquet to Parquet, and how many rows each stage computed."""
    df = spark.read.parquet(str(source))
    tally = Tally(spark)
    started = time.perf_counter()
    score(df, tally).select("id", "output").write.mode("overwrite").parquet(str(out))
    seconds = time.perf_counter() - started
    return seconds, {name: stage.computed for name, stage in tally.stats.stages.items()}


def main() -> None:
    """Runs one contestant."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=CONTESTANTS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True)
    score, passes = CONTESTANTS[asked.name](asked.folder, asked.out)
    conf = {
        "spark.sql.warehouse.dir": str(asked.out / "warehouse"),
        # One task for each core, and not one for what Spark takes for so few bytes.
        "spark.sql.files.openCostInBytes": "4096",
    }
    spark = open_session(SparkConfig(master=f"local[{CORES},4]", conf=conf), name="kvspark-bench")
    _timed(spark, asked.folder / "others.parquet", asked.out / "others", score)
    done = {
        each: _timed(spark, asked.folder / "pairs.parquet", asked.out / each, score)
        for each in passes
    }
    spark.stop()
    rows = pq.read_table(asked.out / "cold").sort_by("id")
    np.save(asked.out / "scores.npy", rows["output"].to_numpy().astype("<f4"))
    seconds = {each: made[0] for each, made in done.items()}
    computed = {each: made[1] for each, made in done.items()}
    print(json.dumps({"rows": rows.num_rows, "seconds": seconds, "computed": computed}))


if __name__ == "__main__":
    main()
