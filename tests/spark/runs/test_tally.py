"""Counts of tasks: what Spark runs twice is counted once."""

from __future__ import annotations

from kvspark.spark.runs.tally import ByTask, Tasks
from kvspark.stats import RunStats


def test_what_a_task_says_again_replaces_what_it_said() -> None:
    merge = ByTask().addInPlace
    first = merge({}, {("call", 1, 0): RunStats(rows=5)})
    assert merge(first, {("call", 1, 0): RunStats(rows=7)}) == {("call", 1, 0): RunStats(rows=7)}


def test_tasks_and_calls_are_kept_apart() -> None:
    merge = ByTask().addInPlace
    tasks = {("a", 1, 0): RunStats(rows=1), ("a", 1, 1): RunStats(rows=2)}
    assert len(merge(tasks, {("b", 1, 0): RunStats(rows=4), ("a", 2, 0): RunStats(rows=8)})) == 4


def test_a_tally_of_a_long_session_sums_what_old_tasks_said_and_forgets_no_row() -> None:
    merge = ByTask(sums_old=True).addInPlace
    tasks: Tasks = {}
    for stage in range(0, 12_000, 2):
        tasks = merge(tasks, {("call", stage, 0): RunStats(rows=1)})
    assert sum(stats.rows for stats in tasks.values()) == 6_000
    assert len(tasks) <= 4_097
    late = merge(tasks, {("call", 11_998, 0): RunStats(rows=1)})  # a task that is tried again
    assert sum(stats.rows for stats in late.values()) == 6_000


def test_the_tasks_of_one_large_job_are_never_summed() -> None:
    merge = ByTask(sums_old=True).addInPlace
    tasks: Tasks = {("call", 7, place): RunStats(rows=1) for place in range(5_000)}
    again = merge(tasks, {("call", 7, 3): RunStats(rows=1)})
    assert sum(stats.rows for stats in again.values()) == 5_000
