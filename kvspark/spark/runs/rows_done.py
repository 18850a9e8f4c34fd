"""How far the jobs of one thread are, as Spark's driver knows it.

Three sources, each with its own delay:

- tasks that have ended: Spark's status tracker, at once;
- what those counted (look-ups, hits, rows): the tally, at once, but nothing of a task that still runs:
  Python's accumulators come with a task's end;
- rows that have left the workers: the SQL metric of `mapInArrow`, which comes with each heartbeat of an
  executor (10 s). It is no public API, so where Spark does not give it the rows of tasks that have
  ended are all that is known. A small table has one task a core: without it nothing would be
  known before the end.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final

from pyspark.sql import SparkSession

from kvspark.spark.runs.progress import Look, progress
from kvspark.spark.runs.tally import Tally

_GROUP_KEYS = ("spark.jobGroup.id", "spark.job.description", "spark.job.interruptOnCancel")
_NODE = "MapInArrow"
_METRIC = "number of output rows"


@final
class RowsDone:
    """Looks at the jobs that this thread runs within `watched`."""

    def __init__(self, spark: SparkSession, tally: Tally, rows: int) -> None:
        self._spark = spark
        self._tally = tally
        self._rows = rows
        self._group = f"kvspark {secrets.token_hex(4)}"
        self._can_see_rows = True

    @contextmanager
    def shown(self, name: str) -> Iterator[None]:
        """Shows to whoever waits how far this thread's jobs are, until it ends."""
        with self.watched(name), progress(name, self.look):
            yield

    @contextmanager
    def watched(self, name: str) -> Iterator[None]:
        """Puts this thread's jobs into a group of their own, until it ends."""
        context = self._spark.sparkContext
        before = {key: context.getLocalProperty(key) for key in _GROUP_KEYS}
        context.setJobGroup(self._group, f"kvspark {name}", interruptOnCancel=True)
        try:
            yield
        finally:
            for key, value in before.items():
                context.setLocalProperty(key, value)  # type: ignore[arg-type]  # None clears it

    def look(self) -> Look:
        """What is known now; from any thread."""
        tracker = self._spark.sparkContext.statusTracker()
        ids = list(tracker.getJobIdsForGroup(self._group))
        jobs = [tracker.getJobInfo(job) for job in ids]
        stages = [tracker.getStageInfo(stage) for job in jobs if job for stage in job.stageIds]
        known = [stage for stage in stages if stage]
        stats = self._tally.stats
        rows = max(stats.rows, self._rows_seen(ids))
        return Look(
            rows=min(rows, self._rows),
            all_rows=self._rows,
            tasks=sum(stage.numCompletedTasks for stage in known),
            all_tasks=sum(stage.numTasks for stage in known),
            lookups=stats.lookups,
            hits=stats.hits,
        )

    def _rows_seen(self, jobs: list[int]) -> int:
        """Rows that have left the workers of the newest query that runs `jobs`; 0 if it does not say."""
        if not jobs or not self._can_see_rows:
            return 0
        try:
            return _rows_out(self._spark, set(jobs))
        except Exception:  # noqa: BLE001 - a private API of another Spark: progress is worth no failure.
            self._can_see_rows = False
            return 0


def _rows_out(spark: SparkSession, jobs: set[int]) -> int:
    store: Any = spark._jsparkSession.sharedState().statusStore()  # noqa: SLF001
    count = store.executionsCount()
    recent = store.executionsList(max(0, count - 8), 8)
    for place in reversed(range(recent.size())):
        execution = recent.apply(place)
        if not any(execution.jobs().contains(job) for job in jobs):
            continue
        metrics = store.executionMetrics(execution.executionId())
        nodes = store.planGraph(execution.executionId()).allNodes()
        for node in map(nodes.apply, range(nodes.size())):  # the nearest to the output comes first
            if node.name() != _NODE:
                continue
            for metric in map(node.metrics().apply, range(node.metrics().size())):
                if metric.name() == _METRIC:
                    value = metrics.get(metric.accumulatorId())
                    return int(value.get().replace(",", "")) if value.isDefined() else 0
    return 0
