"""Files of a table that a merge rewrites, one a task."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import final

import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import SparkSession

from kvspark.table.merge.rewriting import Rewriting, Rewritten

_COLUMN = "rewritten"


@final
@dataclass(frozen=True, slots=True)
class RewriteTask:
    """What a worker does that is given numbers of files: it rewrites them."""

    work: Rewriting
    attempt: str
    """Of the run; part of every name."""

    def run(self, numbers: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """A `Rewritten` as JSON for each file. What an attempt of a task wrote counts once Spark has brought that to the driver."""
        context = TaskContext.get()
        task = 0 if context is None else context.taskAttemptId()
        for batch in numbers:
            for number in batch.column(0).to_pylist():
                done = self.work.rewrite(number, f"merged-{number:05d}-{self.attempt}-{task}")
                yield pa.record_batch([[json.dumps(done.to_json())]], names=[_COLUMN])


def rewritten_by_workers(spark: SparkSession, attempt: str, work: Rewriting) -> list[Rewritten]:
    """What became of each file of `work`.

    Raises:
        OutputError: as `Rewriting.rewrite`; it comes as Spark's own error.
    """
    count = len(work.files)
    numbers = spark.range(0, count, 1, count)
    rows = numbers.mapInArrow(RewriteTask(work, attempt).run, f"{_COLUMN} string").collect()
    return [Rewritten.from_json(json.loads(row[_COLUMN])) for row in rows]
