"""The command of a job, when it is started twice, loses its parent, its memory or an executor."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest
import yaml
from pyspark.sql import SparkSession

from kvspark.config.reading.load import load_job_config
from kvspark.spark.jobs.job import run_score
from tests.faults import models
from tests.faults.conftest import Fired, names_in, until
from tests.faults.matrix import covers
from tests.spark.small_jobs import job, published, write_night

pytestmark = [pytest.mark.spark, pytest.mark.slow]

COMMAND = [sys.executable, "-m", "kvspark.cli", "score"]
START_S = 600
"""For a JVM and its workers on a busy machine."""
LOCAL = {"master": "local[2,4]"}


def conf_for(folder: Path, function: Any, spark: Mapping[str, Any]) -> Path:
    """The conf of the job that scores a night with one of the functions of `models`."""
    if not (folder / "model").exists():
        models.function_model(function).save(folder / "model")
        write_night(folder / "night", 400)
    path = folder / "job.yaml"
    config = job(folder, folder / "night", spark=spark)
    path.write_text(yaml.safe_dump(config.model_dump(mode="json", exclude_defaults=True)))
    return path


def score(conf: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, str(conf)], capture_output=True, text=True, check=False, timeout=START_S
    )


@contextmanager
def started(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process with a group of its own, which is gone at the end."""
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def right(folder: Path) -> pa.Array:
    night = published(folder / "night")
    rows = night["x"].combine_chunks()
    return pa.chunked_array([pa.array(models.doubled(rows.flatten().to_numpy()))])


def is_right(folder: Path) -> bool:
    """True if every row was scored once, and rightly."""
    out = published(folder / "out")
    made = pa.chunked_array([out["y"].combine_chunks().flatten()])
    return out.num_rows == 400 and made.equals(right(folder))


@covers("F40", "F41")
def test_a_run_that_is_started_again_while_it_runs_waits_for_a_later_try(
    spark: SparkSession, tmp_path: Path, trail: Path, fired: Fired
) -> None:
    conf = conf_for(tmp_path, models.gated, LOCAL)
    # The scheduler's own process ends; what it started goes on.
    line = " ".join([*COMMAND, str(conf)])
    with started(["bash", "-c", f"{line} & wait"]) as submitter:
        until(lambda: names_in(trail), START_S)
        (driver,) = psutil.Process(submitter.pid).children()
        os.kill(submitter.pid, signal.SIGKILL)
        submitter.wait()
        assert driver.is_running()
        second = score(conf)
        fired("F40", len(names_in(trail)))
        fired("F41", 1)
        assert second.returncode == 75
        assert "holds it since" in second.stderr
        assert not (tmp_path / "out").exists()
        (trail / models.OPEN).touch()
        until(lambda: not driver.is_running() or driver.status() == psutil.STATUS_ZOMBIE, START_S)
    assert is_right(tmp_path)
    # The later try, in the session that is there already.
    (tmp_path / "out").rename(tmp_path / "first")
    run_score(load_job_config(conf, sets=[], environ={}), spark=spark)
    assert is_right(tmp_path)


@covers("F34")
def test_a_worker_that_may_not_take_more_memory_is_told_which_setting_says_so(
    tmp_path: Path, trail: Path, fired: Fired
) -> None:
    settings = {"spark.executor.pyspark.memory": "4g"}
    done = score(conf_for(tmp_path, models.hungry, {**LOCAL, "conf": settings}))
    fired("F34", len(names_in(trail)))
    assert done.returncode == 65
    assert "spark.executor.pyspark.memory" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()


@covers("F36")
def test_executors_that_are_killed_and_stopped_change_nothing(
    tmp_path: Path, trail: Path, fired: Fired
) -> None:
    settings = {
        "spark.executor.memory": "512m",
        "spark.executor.extraJavaOptions": java_options(),
        # Shorter than Spark's 120 s, and longer than a busy machine keeps an executor waiting.
        "spark.network.timeout": "40s",
        "spark.network.timeoutInterval": "5s",
        "spark.executor.heartbeatInterval": "5s",
    }
    cluster = {"master": "local-cluster[2,1,1024]", "conf": settings}
    conf = conf_for(tmp_path, models.gated, cluster)
    with started([*COMMAND, str(conf)]) as driver:
        until(lambda: len(names_in(trail)) >= 2 or driver.poll() is not None, START_S)
        assert driver.poll() is None
        workers = [int(name.rpartition("-")[2]) for name in sorted(names_in(trail))]
        killed, stopped = (executor_of(pid) for pid in workers)
        assert killed != stopped
        killed.send_signal(signal.SIGKILL)
        stopped.send_signal(signal.SIGSTOP)
        (trail / models.OPEN).touch()
        assert driver.wait(START_S) == 0
        with suppress(psutil.NoSuchProcess):
            stopped.kill()
    again = [name.split("-")[1] for name in names_in(trail) if is_second_attempt(name)]
    fired("F36", len(again))
    assert set(again) == {"0", "1"}
    assert is_right(tmp_path)


def java_options() -> str:
    """What makes the JVMs of tests cheap, for executors, whose options may not hold Spark's own."""
    given = os.environ["SPARK_SUBMIT_OPTS"].split()
    return " ".join(option for option in given if not option.startswith("-Dspark."))


def is_second_attempt(name: str) -> bool:
    """True for the file that a task has left after its first attempt had failed."""
    return name.split("-")[2:3] not in ([], ["0"])


def executor_of(pid: int) -> psutil.Process:
    """The JVM that started a worker."""
    for process in psutil.Process(pid).parents():
        if "CoarseGrainedExecutorBackend" in " ".join(process.cmdline()):
            return process
    raise AssertionError("the worker has no executor of its own")
