"""kill -9 of a real job: readers find the old output or the new one, and the rerun converges."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import psutil
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from kvspark.fault import FAULT_ONCE_ENV, FAULT_POINT_ENV, FAULT_SIGNAL_ENV
from kvspark.infer.model import Model
from kvspark.spark.jobs.job import run_score
from tests.faults.matrix import KILLS_ENV, covers
from tests.spark.small_jobs import job, published, write_night

pytestmark = [pytest.mark.spark, pytest.mark.slow]

# argv: the folder of the job, the night to score, who writes.
JOB = """
import sys
from pathlib import Path
from kvspark.spark.jobs.job import run_score
from tests.spark.small_jobs import job

folder, night = map(Path, sys.argv[1:3])
run_score(job(folder, night, output={"writer": sys.argv[3]}))
"""
KILLS = int(os.environ.get(KILLS_ENV, "2"))
"""One of the driver alone and one of all its processes; `make faults` has more of them. What a kill leaves
behind at each step of a publication is shown without a JVM, in test_target_killed.py."""
TRIES = 12
SEED = 20260101
LOCK, STAGING = "lock", "night-*"
"""What a run leaves beside its output: its lock before Spark starts, its staging when it scores."""
WAYS = [(os.killpg, LOCK), (os.kill, STAGING), (os.kill, LOCK), (os.killpg, STAGING)]
"""The whole machine dies, or the driver alone and its JVM runs on for a moment; some time after a mark."""
LONGEST_S = 3.0
"""From a mark on: as long as a run takes to start, or to score and publish, on a machine of today."""


def start(folder: Path, night: Path, writer: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", JOB, str(folder), str(night), writer],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # the driver, its JVM and its workers are one group
    )


def names_in(path: Path) -> set[str]:
    return {item.name for item in path.iterdir()}


def marked(folder: Path, mark: str) -> set[tuple[str, int]]:
    """What is beside the output, by name and time: a run writes anew into the lock that another has left."""
    found = set()
    for path in (folder / ".kvspark-out").glob(mark):
        with suppress(FileNotFoundError):  # the run has ended meanwhile
            found.add((path.name, path.stat().st_mtime_ns))
    return found


def wait_until_gone(group: int) -> None:
    """Waits for the JVM of a killed driver to end by itself; until then it may write to its staging."""
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    raise AssertionError("a killed driver left its JVM running")


@dataclass(frozen=True)
class Nights:
    """Two nights of other rows; the old one is published."""

    folder: Path
    first: Path
    second: Path
    old: pa.Table
    new: pa.Table

    def published(self) -> pa.Table:
        return published(self.folder / "out")

    def publish_old(self, spark: SparkSession) -> None:
        run_score(job(self.folder, self.first), spark=spark)

    def rerun(self, spark: SparkSession) -> None:
        run_score(job(self.folder, self.second), spark=spark)
        assert self.published().equals(self.new)
        assert names_in(self.folder) == {"first", "second", "model", "out", ".kvspark-out"}
        assert names_in(self.folder / ".kvspark-out") == {"kept"}
        assert len(names_in(self.folder / ".kvspark-out" / "kept")) == 1


@pytest.fixture
def nights(spark: SparkSession, tmp_path: Path, mlp: Model) -> Nights:
    mlp.save(tmp_path / "model")
    first = write_night(tmp_path / "first", 1000, seed=1)
    second = write_night(tmp_path / "second", 2000, seed=2)
    run_score(job(tmp_path, second), spark=spark)
    new = published(tmp_path / "out")
    run_score(job(tmp_path, first), spark=spark)
    return Nights(tmp_path, first, second, published(tmp_path / "out"), new)


@pytest.mark.parametrize("writer", ["spark", "arrow"])
@covers("F38")
def test_a_job_killed_at_random_moments_leaves_the_old_output_and_is_rerun(
    spark: SparkSession, nights: Nights, writer: str
) -> None:
    moments = random.Random(SEED)
    survived: list[pa.Table] = []
    groups: list[int] = []
    for kill, mark in islice(cycle(WAYS), TRIES):
        before = marked(nights.folder, mark)
        running = start(nights.folder, nights.second, writer)
        while not marked(nights.folder, mark) - before:
            assert running.poll() is None
            time.sleep(0.01)
        time.sleep(moments.uniform(0, LONGEST_S))
        kill(running.pid, signal.SIGKILL)
        groups.append(running.pid)
        if running.wait() == 0:  # it was faster this time
            nights.publish_old(spark)
            continue
        survived.append(nights.published())
        assert survived[-1].equals(nights.old) or survived[-1].equals(nights.new)
        if len(survived) == KILLS:
            break
    assert len(survived) == KILLS
    assert any(table.equals(nights.old) for table in survived)
    for group in groups:
        wait_until_gone(group)
    nights.rerun(spark)


def test_a_jvm_that_is_killed_ends_the_run_with_one_line(
    spark: SparkSession, nights: Nights
) -> None:
    scoring = nights.folder / "scoring"
    stops = {FAULT_POINT_ENV: "task_batch", FAULT_SIGNAL_ENV: "SIGSTOP"}
    driver = subprocess.Popen(
        [sys.executable, "-c", JOB, str(nights.folder), str(nights.second), "arrow"],
        env={**os.environ, **stops, FAULT_ONCE_ENV: str(scoring)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not scoring.exists():
        assert driver.poll() is None
        time.sleep(0.05)
    (jvm,) = [each for each in psutil.Process(driver.pid).children() if each.name() == "java"]
    jvm.kill()
    assert driver.wait(timeout=60) == 1
    os.killpg(driver.pid, signal.SIGKILL)  # the worker that stands still
    _, told = driver.communicate(timeout=60)
    (error,) = [line for line in told.splitlines() if line.startswith("kvspark.errors.")]
    assert "the JVM of Spark's driver ended (killed, or out of memory); nothing was" in error
    assert "Exception occurred during processing of request" not in told
    wait_until_gone(driver.pid)
    scoring.unlink()
    assert nights.published().equals(nights.old)
    nights.rerun(spark)
