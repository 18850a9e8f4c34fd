"""Statistics of tasks on their way to the driver.

Spark may run a task more than once: it retries what failed, repeats what was lost and, with
speculation, races a slow task against a copy. So counts are kept by task, and what a task says
replaces what an earlier attempt of it said; nothing is counted twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from operator import add
from typing import final

from pyspark import AccumulatorParam, TaskContext
from pyspark.sql import SparkSession

from kvspark.errors import UsageError
from kvspark.spark.ship import is_connect
from kvspark.stats import NOTHING, RunStats

Tasks = Mapping[tuple[str, int, int], RunStats]
"""By call, Spark stage and partition: all attempts of one task have one key."""


@final
class _ByTask(AccumulatorParam[Tasks]):
    """Merges what tasks said; the later one wins."""

    def zero(self, value: Tasks) -> Tasks:
        del value
        return {}

    def addInPlace(self, value1: Tasks, value2: Tasks) -> Tasks:  # noqa: N802 - Spark's name.
        return {**value1, **value2}


@final
class Tally:
    """What the tasks of one or more `score` calls counted.

    Complete when the action that ran them has returned. Every action on a scored table computes it
    again, and counts again.
    """

    def __init__(self, spark: SparkSession) -> None:
        """Nothing yet.

        Raises:
            UsageError: `spark` is a session of Spark Connect, which has no accumulators.
        """
        if is_connect(spark):
            raise UsageError("Spark Connect has no accumulators; leave stats out")
        self._tasks = spark.sparkContext.accumulator({}, _ByTask())

    def add(self, call: str, stats: RunStats) -> None:
        """Adds what the running task counted for `call`. On workers only."""
        context = TaskContext.get()
        if context is not None:
            self._tasks.add({(call, context.stageId(), context.partitionId()): stats})

    @property
    def stats(self) -> RunStats:
        """What all tasks counted so far. On the driver only."""
        return reduce(add, self._tasks.value.values(), NOTHING)
