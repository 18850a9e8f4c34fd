"""Runs that published nothing to an object store, to HDFS or to a table: the morning after, the history says why."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pyspark.sql import SparkSession

from kvspark.cli.app import run as command
from kvspark.config.job import JobConfig
from kvspark.errors import KvsparkError
from kvspark.infer.model import Model
from kvspark.spark.jobs.job import run_score
from kvspark.spark.publishing.open_publisher import publisher_of
from kvspark.table.objects.object_store import ObjectStore
from kvspark.table.publish.unpublished_runs import MOST, UnpublishedFiles, UnpublishedRuns
from tests.killed_process import killed_at
from tests.spark.small_jobs import job, write_night
from tests.spark.sources.twins import remote_folder

pytestmark = pytest.mark.spark


@pytest.fixture(params=["s3", "hdfs", "delta", "iceberg"])
def output(
    request: pytest.FixtureRequest, spark: SparkSession, tmp_path: Path
) -> Iterator[dict[str, Any]]:
    """A new target."""
    if request.param == "delta":
        yield {"format": "delta", "path": str(tmp_path / "table")}
    elif request.param == "iceberg":
        where = {"uri": f"sqlite:///{tmp_path / 'c.db'}", "warehouse": f"file://{tmp_path / 'w'}"}
        catalog = {"type": "sql", **where}
        yield {"format": "iceberg", "path": "iceberg:local/bank.scores", "catalog": catalog}
    else:
        with remote_folder(request.param, request, spark) as url:
            yield {"path": f"{url}/scores"}


@pytest.fixture
def folder(tmp_path: Path, mlp: Model) -> Path:
    mlp.save(tmp_path / "model")
    write_night(tmp_path / "night", files=1)
    return tmp_path


def kept(config: JobConfig) -> UnpublishedRuns:
    publisher = publisher_of(config)
    assert publisher is not None
    found = publisher.unpublished()
    assert found is not None
    return found


def history(config: JobConfig, folder: Path, capsys: pytest.CaptureFixture[str]) -> set[Any]:
    """Of `kvspark report`: each run and what became of it."""
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json", exclude_unset=True)))
    capsys.readouterr()
    assert command(["report", str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["history"]
    return {(run["run_id"], run["state"], run["code"]) for run in told}


def test_runs_that_failed_are_in_the_history_of_the_output(
    spark: SparkSession,
    folder: Path,
    output: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    night = folder / "night"
    first = job(folder, night, run={"id": "first"}, output=output)
    with pytest.raises(KvsparkError):  # there is no output yet, and so no history
        run_score(job(folder, folder / "none", run={"id": "zero"}, output=output), spark=spark)
    run_score(first, spark=spark)
    for run_id, sections in (
        ("before the lock", {"input": {"paths": [str(folder / "none")]}}),
        ("under it", {"inputs": {"x": "no_such_column"}}),
    ):
        failing = job(
            folder, night, run={"id": run_id.replace(" ", "-")}, output=output, **sections
        )
        with pytest.raises(KvsparkError):
            run_score(failing, spark=spark)
    told = {
        ("first", "published", None),
        ("before-the-lock", "failed", "KVS-1100"),
        ("under-it", "failed", "KVS-1101"),
    }
    assert history(first, folder, capsys) == told
    assert len(kept(first).lines()) == 2
    killed_at("anywhere", _die_with_the_lock, first)
    run_score(job(folder, night, run={"id": "last"}, output=output), spark=spark)
    assert kept(first).lines() == []
    told |= {("killed", "died", None), ("last", "published", None)}
    assert history(first, folder, capsys) == told


def _die_with_the_lock(config: JobConfig) -> None:
    publisher = publisher_of(config)
    assert publisher is not None
    with publisher.lock("killed"):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_job_that_fails_each_minute_fills_no_store(tmp_path: Path) -> None:
    lines = UnpublishedFiles(tmp_path)
    for number in range(MOST + 5):
        lines.add(f"line {number}")
        lines.add(f"line {number}")
    assert len(lines.lines()) == len([*tmp_path.rglob("*.json")]) == MOST
    assert f"line {MOST + 4}" in lines.lines()
    lines.drop([*lines.lines(), "line of nobody"])
    assert lines.lines() == []


def test_a_store_that_does_not_answer_is_not_waited_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The error of the run is what the run ends with."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    asked: list[str] = []

    def refuses(self: ObjectStore, name: str) -> None:
        asked.append(name)
        raise OSError(f"{name}: nobody is there")

    monkeypatch.setattr(ObjectStore, "get", refuses)
    config = job(folder, folder / "none", output={"path": "s3://bucket/scores"})
    with pytest.raises(KvsparkError, match="none does not exist"):
        run_score(config)
    assert asked
    assert "Traceback" not in caplog.text
