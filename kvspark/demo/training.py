"""The demo's heads, trained on vectors that kvspark computes, or finds in the cache."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, final

import numpy as np
import pyarrow as pa

from kvspark.cache.cache import Cache
from kvspark.demo.classifier import WIDTH, Head
from kvspark.demo.head import TrainedHead, is_held_out, train_head
from kvspark.infer.model import Model
from kvspark.spark.runs.tally import Tally
from kvspark.spark.scoring.score import score

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

FIRST_ROWS = 2000
"""Rows of the first night whose labels are known before it: enough for 95 % of what all give."""


@final
@dataclass(frozen=True, slots=True)
class Training:
    """A head and what it took to make it."""

    trained: TrainedHead
    computed: int
    """Rows that went through the trunk for it; 0 where the cache had all vectors."""
    seconds: float

    @property
    def head(self) -> Head:
        """The head itself."""
        return self.trained.head

    def to_json(self) -> Mapping[str, object]:
        """This value as plain JSON types, without the weights."""
        return {
            "rows": self.trained.rows,
            "computed": self.computed,
            "seconds": round(self.seconds, 3),
            "classes": list(self.trained.classes),
        }


def train(spark: SparkSession, trunk: Model, rows: pa.Table, *, cache: Cache | None) -> Training:
    """A head for `rows`, whose vectors come from the cache where it has them."""
    started = time.perf_counter()
    stats = Tally(spark)
    df = spark.createDataFrame(rows.select(["id", "text", "label"]))
    scored = score(df, trunk, outputs={"output": "vector"}, cache=cache, stats=stats).toArrow()
    # Spark says nothing of the order of rows, and the head depends on it in its last bits.
    scored = scored.sort_by("id")
    flat = scored["vector"].combine_chunks().flatten().to_numpy()
    trained = train_head(flat.reshape(-1, WIDTH), scored["label"].to_pylist())
    computed = stats.stats.stages["output"].computed
    return Training(trained, computed, time.perf_counter() - started)


def first_rows(night: pa.Table) -> pa.Table:
    """The labelled rows before the first night: `FIRST_ROWS` of it, drawn by a hash of the id."""
    rows = all_rows(night)
    drawn = [
        blake2b(row_id.encode(), digest_size=8, person=b"demo-labelled").digest()
        for row_id in rows["id"].to_pylist()
    ]
    return rows.take(np.argsort(np.array(drawn), kind="stable")[:FIRST_ROWS])


def all_rows(night: pa.Table) -> pa.Table:
    """The rows of a night that a head may be trained on: those that are not held out."""
    return night.filter(pa.array([not is_held_out(row_id) for row_id in night["id"].to_pylist()]))
