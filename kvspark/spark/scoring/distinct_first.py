"""A stage computed once for each distinct value of its inputs, before the rows that share them.

A cache keeps workers from computing what another one has computed, not from computing what another
one is computing: at the start of a job all workers miss the same items. So a stage that few inputs
reach is first computed for the distinct values of those, which Spark finds, each in one task. It is
part of the plan of the scored table, as a subquery that Spark runs before the scan: nothing is
computed before somebody asks for the table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import final

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from kvspark.model.stage.stage import Stage
from kvspark.spark.columns.column_map import ColumnMap
from kvspark.spark.columns.subject import subject_inputs
from kvspark.spark.runs.tally import Tally
from kvspark.spark.scoring.worker import TaskSpec, predictor_for
from kvspark.spark.session.connect import is_connect
from kvspark.stats import NOTHING

_COUNT = "rows"


def distinct_first(
    df: DataFrame,
    columns: ColumnMap,
    stages: Sequence[Stage],
    spec: TaskSpec,
    call: str,
    stats: Tally | None,
) -> DataFrame:
    """The rows of `df`, for which the results of `stages` are in the cache before the first is read.

    As far as the cache takes them: a result that it does not keep is computed again. `df` is computed
    once more for each of `stages`, with no other columns than the inputs that reach it.
    """
    scored = df
    subject = subject_inputs(spec.cache, df.schema)
    # By place: names may be there twice, or differ in case only.
    numbered = df.toDF(*(f"_{place}" for place in range(len(df.columns))))
    for stage in stages:
        task = WarmTask(spec, stage.name, (*stage.inputs, *subject), call, stats)
        names = [{**columns.inputs, **subject}[name] for name in task.inputs]
        inputs = [F.col(f"_{df.columns.index(name)}") for name in names]
        rows = numbered.select(*inputs).toDF(*(f"_{i}" for i in range(len(inputs)))).distinct()
        cores = _cores(df.sparkSession)
        # Spread by hand: Spark would put so few bytes into one task, whatever they cost to compute.
        made = rows.repartition(cores, *rows.columns).mapInArrow(task.run, f"{_COUNT} long")
        known = made.agg(F.sum(_COUNT)).scalar()
        # True of every row; a filter waits for its subqueries.
        scored = scored.where(F.coalesce(known, F.lit(0)) >= 0)
    return scored


def _cores(spark: SparkSession) -> int:
    if is_connect(spark):  # a client does not see the cluster
        return int(spark.conf.get("spark.sql.shuffle.partitions") or 1)
    return spark.sparkContext.defaultParallelism


@final
@dataclass(frozen=True, slots=True)
class WarmTask:
    """The function that Spark runs on distinct inputs."""

    spec: TaskSpec
    stage: str
    inputs: tuple[str, ...]
    call: str
    stats: Tally | None

    def run(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """How many rows were seen, one number a batch."""
        counted = NOTHING
        predictor = None
        for batch in batches:
            if batch.num_rows == 0:
                continue
            if predictor is None:
                predictor = predictor_for(self.spec)
                predictor.drain()
            columns = dict(zip(self.inputs, batch.columns, strict=True))
            count = predictor.warm(self.stage, columns)
            counted += predictor.drain()
            yield pa.RecordBatch.from_pydict({_COUNT: [count]})
            if counted.degraded or counted.stages[self.stage].rested:
                break  # what the cache does not take would be computed for nothing
        if self.stats is not None and predictor is not None:
            self.stats.add(self.call, counted)
