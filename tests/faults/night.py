"""The demo's first night with its store behind a black hole, beside the same night without a cache."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import final

import pyarrow.parquet as pq

from kvspark.config.cache import CacheConfig
from kvspark.config.job import SparkConfig
from kvspark.demo.classifier import load_trunk
from kvspark.demo.models import Models
from kvspark.demo.nights.night import shipped_nights
from kvspark.demo.nights.scoring import Job
from kvspark.spark.session.session import open_session
from tests.faults.proxy import FaultProxy
from tests.faults.wire import BlackHole
from tests.redis_server import running_redis


@final
@dataclass(frozen=True)
class NightInTheDark:
    """What came of it."""

    rows: int
    fired: int
    is_equal: bool
    """True if the output is that of the night without a cache."""
    seconds: float
    seconds_off: float


def night_in_the_dark(folder: Path) -> NightInTheDark:
    """Scores the night three times: a few rows to warm Spark, then without and with the cache."""
    night = shipped_nights()[0].path
    few = folder / "few.parquet"
    pq.write_table(pq.read_table(night).slice(0, 200), few)
    bundle = folder / "model"
    Models(load_trunk()).trunk.save(bundle)
    spark = open_session(SparkConfig(master="local[2,4]"), name="faults")
    Job(spark, "few", few, bundle, folder / "few").run(None)
    job = Job(spark, "night", night, bundle, folder / "night")
    off = job.run(None)
    with running_redis() as server, FaultProxy(server.port, BlackHole()) as proxy:
        dark = job.run(CacheConfig(url=proxy.url, namespace="faults"))
    scored = dark.read()
    return NightInTheDark(
        scored.num_rows,
        proxy.fired,
        scored.sort_by("id").equals(off.read().sort_by("id")),
        dark.seconds,
        off.seconds,
    )
