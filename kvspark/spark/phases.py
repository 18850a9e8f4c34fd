"""The phases of a run: how long each takes, and what a person who waits sees of it."""

from __future__ import annotations

import logging
import secrets
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

from pyspark.sql import SparkSession
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

log = logging.getLogger(__name__)

_TERMINAL_S = 0.5
_LINE_S = 30.0
_GROUP_KEYS = ("spark.jobGroup.id", "spark.job.description", "spark.job.interruptOnCancel")


@final
class Phases:
    """Times the phases of one run and logs a line for each."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.current: str | None = None
        """The phase that was entered last."""

    @contextmanager
    def phase(self, name: str) -> Iterator[list[str]]:
        """Times a phase; what is appended to the list is said in its line."""
        told: list[str] = []
        self.current = name
        started = time.perf_counter()
        try:
            yield told
        finally:
            self.seconds[name] = time.perf_counter() - started
        log.info("%s: %s (%.1f s)", name, ", ".join(told) or "done", self.seconds[name])


@contextmanager
def progress(spark: SparkSession, name: str) -> Iterator[None]:
    """Shows, until it ends, how many tasks of this thread's jobs are done.

    A bar on a terminal, else a line every half minute.
    """
    context = spark.sparkContext
    group = f"kvspark {name} {secrets.token_hex(4)}"
    before = {key: context.getLocalProperty(key) for key in _GROUP_KEYS}
    context.setJobGroup(group, f"kvspark {name}", interruptOnCancel=True)
    done = threading.Event()
    show = _bar if sys.stderr.isatty() else _lines
    watcher = threading.Thread(target=show, args=(spark, group, name, done), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
        for key, value in before.items():
            context.setLocalProperty(key, value)  # type: ignore[arg-type]  # None clears it


def _bar(spark: SparkSession, group: str, name: str, done: threading.Event) -> None:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("tasks"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=None)
        while not done.wait(_TERMINAL_S):
            completed, total = _tasks(spark, group)
            bar.update(task, completed=completed, total=total or None)


def _lines(spark: SparkSession, group: str, name: str, done: threading.Event) -> None:
    started = time.monotonic()
    while not done.wait(_LINE_S):
        completed, total = _tasks(spark, group)
        log.info(
            "%s: %d of %d tasks after %.0f s", name, completed, total, time.monotonic() - started
        )


def _tasks(spark: SparkSession, group: str) -> tuple[int, int]:
    """Completed tasks and all tasks of the group's jobs."""
    tracker = spark.sparkContext.statusTracker()
    jobs = [tracker.getJobInfo(job) for job in tracker.getJobIdsForGroup(group)]
    stages = [tracker.getStageInfo(stage) for job in jobs if job for stage in job.stageIds]
    known = [stage for stage in stages if stage]
    return sum(s.numCompletedTasks for s in known), sum(s.numTasks for s in known)
