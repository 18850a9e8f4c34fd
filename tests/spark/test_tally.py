"""Counts of tasks: what Spark runs twice is counted once."""

from __future__ import annotations

from kvspark.spark.tally import _ByTask
from kvspark.stats import RunStats


def test_what_a_task_says_again_replaces_what_it_said() -> None:
    merge = _ByTask().addInPlace
    first = merge({}, {("call", 1, 0): RunStats(rows=5)})
    assert merge(first, {("call", 1, 0): RunStats(rows=7)}) == {("call", 1, 0): RunStats(rows=7)}


def test_tasks_and_calls_are_kept_apart() -> None:
    merge = _ByTask().addInPlace
    tasks = {("a", 1, 0): RunStats(rows=1), ("a", 1, 1): RunStats(rows=2)}
    assert len(merge(tasks, {("b", 1, 0): RunStats(rows=4), ("a", 2, 0): RunStats(rows=8)})) == 4
