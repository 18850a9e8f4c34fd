"""Statistics of tasks on their way to the driver.

Spark may run a task more than once: it retries what failed, repeats what was lost and, with
speculation, races a slow task against a copy. So counts are kept by task, and what a task says
replaces what an earlier attempt of it said; nothing is counted twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, final

from pyspark import AccumulatorParam, TaskContext
from pyspark.sql import SparkSession

from kvspark.errors import UsageError
from kvspark.spark.session.connect import is_connect
from kvspark.stats import NOTHING, RunStats

if TYPE_CHECKING:
    from kvspark.cache.cache import Cache

Tasks = Mapping[tuple[str, int, int], RunStats]
"""By call, Spark stage and partition: all attempts of one task have one key."""


_OLD = ("", -1, -1)
_MOST_TASKS = 4096
_STAGES = 1000
"""Spark stages after which a task does not come back: its job has long ended."""


@final
@dataclass(frozen=True, slots=True)
class ByTask(AccumulatorParam[Tasks]):
    """Merges what tasks said; the later one wins."""

    sums_old: bool = False
    """For a tally that lives as long as its session: what old tasks said is kept as one sum."""

    def zero(self, value: Tasks) -> Tasks:
        del value
        return {}

    def addInPlace(self, value1: Tasks, value2: Tasks) -> Tasks:  # noqa: N802 - Spark's name.
        merged = {**value1, **value2}
        if not self.sums_old or len(merged) <= _MOST_TASKS:
            return merged
        newest = max(stage for _, stage, _ in merged)
        old = [key for key in merged if key[1] < newest - _STAGES]
        rest = reduce(add, (merged.pop(key) for key in old), NOTHING)
        return {_OLD: rest, **merged}


@final
class Tally:
    """What the tasks of one or more `score` calls counted, as they end: `stats` of `kvspark.score`.

    Complete when the action that ran them has returned. Every action on a scored table computes it
    again, and counts again.
    """

    def __init__(self, spark: SparkSession | None = None, *, sums_old: bool = False) -> None:
        """Nothing yet; `spark` is the session that is running where it is left out.

        `sums_old` keeps it small for the life of a session: what tasks of 1,000 Spark stages ago said
        is kept as one sum.

        Raises:
            UsageError: there is no session, or it is one of Spark Connect, which has no accumulators.
        """
        spark = spark or SparkSession.getActiveSession()
        if spark is None:
            raise UsageError("kvspark.Tally needs a running Spark session; make one first")
        if is_connect(spark):
            raise UsageError("Spark Connect has no accumulators; leave stats out")
        self._tasks = spark.sparkContext.accumulator({}, ByTask(sums_old))

    def add(self, call: str, stats: RunStats) -> None:
        """Adds what the running task counted for `call`. On workers only."""
        context = TaskContext.get()
        if context is not None:
            self._tasks.add({(call, context.stageId(), context.partitionId()): stats})

    @property
    def stats(self) -> RunStats:
        """What all tasks counted so far. On the driver only."""
        return reduce(add, self._tasks.value.values(), NOTHING)

    def __repr__(self) -> str:
        return f"Tally({self.stats!r})"

    def _repr_html_(self) -> str:
        return self.stats._repr_html_()


def tally_for(cache: Cache | None, given: Tally | None, spark: SparkSession) -> Tally | None:
    """Who hears of one call: `given`, else one that lives as long as the session; `cache.stats` asks it.

    None without a cache, and under Spark Connect.
    """
    if cache is None or is_connect(spark):
        return given
    if given is not None:
        cache.counted.follow(f"tally {id(given)}", given)
        return given
    name = f"application {spark.sparkContext.applicationId}"
    known = cache.counted.source(name)
    if isinstance(known, Tally):
        return known
    tally = Tally(spark, sums_old=True)
    cache.counted.follow(name, tally)
    return tally
