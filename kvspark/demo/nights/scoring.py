"""One night of the demo: the real job, run with the cache and once more without it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

import pyarrow as pa
import pyarrow.dataset as ds

from kvspark.config.cache import CacheConfig
from kvspark.config.job import JobConfig, RunConfig
from kvspark.config.model import ModelConfig
from kvspark.config.table.input_table import InputConfig
from kvspark.config.table.output_table import OutputConfig
from kvspark.demo.head import TrainedHead, is_held_out
from kvspark.demo.nights.equality import first_difference
from kvspark.demo.nights.outcome import Outcome
from kvspark.spark.jobs.job import run_score
from kvspark.spark.runs.run_report import FILE_NAME, REPORT_FOLDER, RunReport

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

JOB = "kvspark-demo"


@final
@dataclass(frozen=True, slots=True)
class Run:
    """One run of the job."""

    report: RunReport
    output: Path
    seconds: float
    """Wall time of the whole job, from reading to publishing."""

    def read(self) -> pa.Table:
        """All columns of what it published."""
        return ds.dataset(self.output, format="parquet").to_table()


@final
@dataclass(frozen=True, slots=True)
class Job:
    """What both runs of a night have in common."""

    spark: SparkSession
    name: str
    input: Path
    model: Path
    """The folder of the bundle."""
    output: Path

    def run(self, cache: CacheConfig | None) -> Run:
        """Scores the night; without the cache the output goes to a folder of its own."""
        output = self.output
        if cache is None:
            output = output.with_name(f"{output.name}-cache-off")
        config = JobConfig(
            run=RunConfig(name=JOB, id=output.name),
            input=InputConfig(paths=(str(self.input),)),
            model=ModelConfig(path=str(self.model)),
            cache=cache,
            output=OutputConfig(path=str(output)),
        )
        started = time.perf_counter()
        report = run_score(config, spark=self.spark)
        return Run(report, output, time.perf_counter() - started)

    def outcome(self, run: Run, off: Run, head: TrainedHead, *, new_texts: int) -> Outcome:
        """What the two runs came to: `run` with the cache, `off` without it."""
        scored = run.read()
        return Outcome(
            name=self.name,
            rows=scored.num_rows,
            new_texts=new_texts,
            stages=run.report.stats.stages,
            seconds=run.seconds,
            seconds_cache_off=off.seconds,
            difference=first_difference(scored, off.read(), key="id"),
            accuracy=_accuracy(scored, head),
            output=run.output,
            run_report=run.output / REPORT_FOLDER / FILE_NAME,
            degraded=tuple(sorted(run.report.stats.degraded)),
        )


def _accuracy(scored: pa.Table, head: TrainedHead) -> float | None:
    held_out = scored.filter(pa.array([is_held_out(i) for i in scored["id"].to_pylist()]))
    return head.accuracy(held_out["label_id"].to_numpy(), held_out["label"].to_pylist())
