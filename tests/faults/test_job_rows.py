"""A whole job, while its store, its workers or its disk fail: the old output, or the right one."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from kvspark.errors import (
    KvsparkError,
    NotRepeatableError,
    OutputError,
    SecretError,
)
from kvspark.spark.jobs.job import run_score
from tests.faults import models
from tests.faults.conftest import Fired, names_in, until
from tests.faults.matrix import covers
from tests.faults.proxy import FaultProxy
from tests.faults.wire import BlackHole, Drip, Fault, Flip, Say, Swap
from tests.redis_server import running_redis
from tests.small_disk import small_disk as mounted
from tests.spark.small_jobs import job, published, write_night

pytestmark = [pytest.mark.spark, pytest.mark.redis]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    models.function_model(models.doubled).save(tmp_path / "model")
    return tmp_path


def cached(url: str, **more: Any) -> dict[str, Any]:
    return {"cache": {"url": url, "namespace": "faults", **more}}


FAULTS = {
    "F7": lambda: Drip(64, 0.05),
    "F8": BlackHole,
    "F12": lambda: Flip(0.5),
    "F13": Swap,
    "F18": lambda: Say(b"-LOADING Redis is loading the dataset in memory\r\n"),
}


@pytest.mark.parametrize("row", [pytest.param(row, marks=covers(row)) for row in FAULTS])
def test_a_job_gives_the_same_output_whatever_its_store_does(
    spark: SparkSession, folder: Path, fired: Fired, row: str
) -> None:
    # Some thousands, so that a look-up has several answers on their way, which F13 exchanges.
    night = write_night(folder / "night", 6_000)
    run_score(job(folder, night), spark=spark)
    without = published(folder / "out")
    with running_redis() as server:
        run_score(job(folder, night, **cached(server.url)), spark=spark)
        fault: Fault = FAULTS[row]()
        # The driver's own look-ups come first.
        with FaultProxy(server.port, fault, first=4) as proxy:
            report = run_score(job(folder, night, **cached(proxy.url)), spark=spark)
            fired(row, proxy.fired)
    assert published(folder / "out").equals(without)
    assert report.stats.cache_errors


@covers("F26")
def test_a_wrong_password_stops_a_job_before_it_writes(
    spark: SparkSession, folder: Path, fired: Fired, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KVSPARK_TESTS_WRONG", "not it")
    night = write_night(folder / "night")
    with running_redis("--requirepass", "right") as server:
        conf = job(folder, night, **cached(server.url, password_env="KVSPARK_TESTS_WRONG"))
        with pytest.raises(SecretError, match="password_env") as caught:
            run_score(conf, spark=spark)
    fired("F26", 1)
    assert caught.value.exit_code == 77
    assert "not it" not in str(caught.value)
    assert names_in(folder) - {".kvspark-out"} == {
        "model",
        "night",
    }  # the history has a line for it


def run_with(spark: SparkSession, folder: Path, function: Any, **sections: Any) -> pa.Table:
    """What a job publishes whose model is `function`."""
    if not (folder / function.__name__).exists():
        models.function_model(function).save(folder / function.__name__)
    path = {"path": str(folder / function.__name__)}
    run_score(job(folder, folder / "night", model=path, **sections), spark=spark)
    return published(folder / "out")


WRITERS = ("spark", "arrow")


def out(folder: Path, writer: str) -> dict[str, Any]:
    """The section `output` of a conf."""
    return {"path": str(folder / "out"), "writer": writer}


@covers("F32")
def test_a_worker_that_is_killed_once_changes_nothing(
    spark: SparkSession, folder: Path, trail: Path, fired: Fired
) -> None:
    write_night(folder / "night")
    whole = run_with(spark, folder, models.doubled)
    assert run_with(spark, folder, models.dies_once).equals(whole)
    fired("F32", len(names_in(trail)))


@covers("F32")
def test_a_worker_that_is_killed_while_its_file_is_open_changes_nothing(
    spark: SparkSession, folder: Path, trail: Path, fired: Fired
) -> None:
    write_night(folder / "night")
    whole = run_with(spark, folder, models.doubled)
    died: list[str] = []

    def kills() -> None:
        """Each worker that waits, once it has written something."""
        until(lambda: len(names_in(trail)) == 2)
        files = (folder / ".kvspark-out").glob("*.tasks/part-*")
        died.extend(path.name for path in files if path.stat().st_size)
        for name in names_in(trail):
            os.kill(int(name.rpartition("-")[2]), signal.SIGKILL)

    killer = threading.Thread(target=kills, daemon=True)
    killer.start()
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "20")
    try:
        sections = {"output": {**out(folder, "arrow"), "group_rows": 10}}
        plan = {"max_pending_rows": 20}
        made = run_with(spark, folder, models.gated_later, plan=plan, **sections)
    finally:
        spark.conf.unset("spark.sql.execution.arrow.maxRecordsPerBatch")
    killer.join()
    fired("F32", len(died))
    assert len(died) == 2
    assert made.equals(whole)
    names = {path.name for path in (folder / "out").glob("part-*")}
    assert len(names) == 2
    assert not names & set(died)
    assert names_in(folder / ".kvspark-out") == {"kept"}


@pytest.mark.parametrize("writer", WRITERS)
@covers("F33")
def test_a_worker_that_always_dies_leaves_the_old_output_and_says_where(
    spark: SparkSession, folder: Path, trail: Path, fired: Fired, writer: str
) -> None:
    write_night(folder / "night")
    old = run_with(spark, folder, models.doubled)
    with pytest.raises(
        KvsparkError, match=r"died in every attempt \(4\) of partition \d"
    ) as caught:
        run_with(spark, folder, models.always_dies, output=out(folder, writer))
    attempts = [name.split("-")[:3] for name in names_in(trail)]
    fired("F33", len(attempts))
    assert "\n" not in str(caught.value)
    assert any(
        [["dies", part, str(attempt)] for attempt in range(4)] <= sorted(attempts) for part in "01"
    )
    assert published(folder / "out").equals(old)
    assert names_in(folder / ".kvspark-out") == {"unpublished.jsonl"}


@covers("F35")
def test_a_model_that_hangs_is_ended_after_the_time_that_the_conf_says(
    spark: SparkSession, folder: Path, trail: Path, fired: Fired
) -> None:
    write_night(folder / "night", files=1)
    old = run_with(spark, folder, models.doubled)
    settings = {
        "spark.sql.execution.pyspark.udf.idleTimeoutSeconds": "4",
        "spark.sql.execution.pyspark.udf.killOnIdleTimeout": "true",
    }
    for key, value in settings.items():
        spark.conf.set(key, value)
    try:
        with pytest.raises(KvsparkError, match="idleTimeoutSeconds") as caught:
            run_with(spark, folder, models.hangs)
    finally:
        for key in settings:
            spark.conf.unset(key)
    # A busy machine may end a worker before it comes to the model; Spark says so in other words.
    ended = str(caught.value.__cause__).count("due to idle timeout")
    fired("F35", ended + len(names_in(trail)))
    assert "\n" not in str(caught.value)
    assert published(folder / "out").equals(old)


@covers("F42")
def test_an_interrupted_run_leaves_no_worker_behind_and_the_session_usable(
    spark: SparkSession, folder: Path, trail: Path, fired: Fired
) -> None:
    write_night(folder / "night")
    old = run_with(spark, folder, models.doubled)
    is_over = threading.Event()

    def cancels() -> None:
        # Until it is over: whoever presses a button does so again, and no bound lets workers wait.
        while not is_over.wait(0.05):
            if names_in(trail):
                spark.sparkContext.cancelAllJobs()

    cell = threading.Thread(target=cancels, daemon=True)
    cell.start()
    with pytest.raises(Exception, match=r"(?i)cancel"):
        run_with(spark, folder, models.gated)
    is_over.set()
    cell.join()
    pids = [int(name.rpartition("-")[2]) for name in names_in(trail)]
    fired("F42", len(pids))
    until(lambda: not any(psutil.pid_exists(pid) for pid in pids))
    assert published(folder / "out").equals(old)
    assert names_in(folder / ".kvspark-out") == {"unpublished.jsonl"}
    (trail / models.OPEN).touch()
    assert run_with(spark, folder, models.gated).equals(old)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KB."""
    with mounted(tmp_path / "disk") as disk:
        yield disk


@pytest.mark.parametrize("writer", WRITERS)
@covers("F43")
def test_a_full_disk_leaves_the_old_output(
    spark: SparkSession, folder: Path, small_disk: Path, fired: Fired, writer: str
) -> None:
    output = out(small_disk, writer)
    run_score(job(folder, write_night(folder / "night"), output=output), spark=spark)
    old = published(small_disk / "out")
    large = write_night(folder / "large", 20_000)
    with pytest.raises(OutputError, match="no space left") as caught:
        run_score(job(folder, large, output=output), spark=spark)
    fired("F43", 1)
    assert caught.value.exit_code == 73
    assert published(small_disk / "out").equals(old)
    assert names_in(small_disk) - {".kvspark-out"} == {"out"}
    # The line of the history fits again once what was staged is gone.
    assert names_in(small_disk / ".kvspark-out") == {"unpublished.jsonl"}


@covers("F44")
def test_a_model_that_gives_other_bits_each_time_is_refused(
    spark: SparkSession, folder: Path, fired: Fired
) -> None:
    write_night(folder / "night")
    with pytest.raises(NotRepeatableError) as caught:
        run_with(spark, folder, models.random)
    fired("F44", 1)
    assert caught.value.exit_code == 65
    assert "out" not in names_in(folder)


@covers("B14")
def test_rows_with_one_id_are_rows_like_others(
    spark: SparkSession, folder: Path, fired: Fired
) -> None:
    """Nothing is keyed by an id: a row's key is what the model takes of it."""
    night = write_night(folder / "night", 20)
    pq.write_table(pq.read_table(night / "0.parquet"), night / "again.parquet")
    run_score(job(folder, night), spark=spark)
    ids = published(folder / "out")["id"].to_pylist()
    fired("B14", len(ids) - len(set(ids)))
    assert len(ids) == 30
