"""SIGINT, SIGTERM and SIGHUP: one line that is true, an exit code that says which, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from kvspark.config.reading.load import job_config
from kvspark.fault import FAULT_POINT_ENV, FAULT_SIGNAL_ENV
from kvspark.infer.model import Model
from kvspark.spark.publishing.folder_target import FolderTarget
from kvspark.spark.publishing.interrupted import interrupted_run
from kvspark.spark.runs.history import read_history
from kvspark.spec import TensorSpec
from tests.callables import doubled, stuck
from tests.spark.publishing import content_of, publish, target_at

ROOT = Path(__file__).parents[3]
SIGNALS = [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)]
START_S = 240
X, Y = TensorSpec("x", "float32", (4,)), TensorSpec("y", "float32", (4,))


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """A job whose model never ends in a task; its output is published, and another one kept."""
    Model.from_callable(stuck, fingerprint="1", inputs=[X], outputs=[Y]).save(tmp_path / "model")
    rows = {"id": range(50), "x": pa.array([np.ones(4, "float32")] * 50, pa.list_(pa.float32()))}
    (tmp_path / "night").mkdir()
    pq.write_table(pa.table(rows), tmp_path / "night" / "0.parquet")
    value = {
        "run": {"name": "small", "id": "night"},
        "input": {"paths": [str(tmp_path / "night")]},
        "model": {"path": str(tmp_path / "model")},
        "output": {"path": str(tmp_path / "out")},
        "spark": {"master": "local[2,4]"},
    }
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(value))
    for night in ("first", "second"):
        publish(target_at(tmp_path / "out"), night)
    return tmp_path / "job.yaml"


def start(command: list[str], folder: Path, **environ: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "KVSPARK_TEST_STUCK": str(folder / "stuck"), **environ},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Under nohup it would be ignored, as it should.
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # noqa: PLW1509
    )


def interrupted_at(point: str, name: str, *arguments: str) -> tuple[int, list[str]]:
    """The exit code and the lines of `kvspark ARGUMENTS`, which gets the signal at a fault point."""
    command = [sys.executable, "-m", "kvspark.cli", *arguments]
    environ = {FAULT_POINT_ENV: point, FAULT_SIGNAL_ENV: name}
    running = start(command, Path(arguments[1]).parent, **environ)
    _, told = running.communicate(timeout=START_S)
    return running.returncode, told.splitlines()


def wait_until_stuck(folder: Path, running: subprocess.Popen[str]) -> None:
    ends = time.monotonic() + START_S
    while not (folder / "stuck").exists():
        assert running.poll() is None, running.communicate()[1]
        assert time.monotonic() < ends
        time.sleep(0.05)


def ours(lines: list[str]) -> list[str]:
    """What is no line of a phase, which has a time, nor Java's own word when it starts."""
    return [line for line in lines if " INFO " not in line and "incubator modules" not in line]


@pytest.mark.parametrize(("name", "code"), SIGNALS)
def test_a_rollback_that_is_interrupted_before_it_begins_changes_nothing(
    conf: Path, name: str, code: int
) -> None:
    told = interrupted_at("locked", name, "rollback", str(conf))
    assert told == (code, ["interrupted in rollback; nothing was changed"])
    assert content_of(conf.parent / "out") == "second"
    assert {item.name for item in (conf.parent / ".kvspark-out").iterdir()} == {"kept"}


@pytest.mark.parametrize(("name", "code"), SIGNALS)
def test_a_signal_waits_for_the_exchange_and_the_line_says_that_it_happened(
    conf: Path, name: str, code: int
) -> None:
    told = interrupted_at("placed", name, "rollback", str(conf))
    assert told == (code, ["interrupted in rollback; it is done, the output was exchanged"])
    assert content_of(conf.parent / "out") == "first"
    assert [version.label for version in target_at(conf.parent / "out").versions()] == ["second"]


def test_a_run_that_is_interrupted_before_spark_starts_ends_at_once(conf: Path) -> None:
    told = interrupted_at("locked", "SIGTERM", "score", str(conf))
    assert told == (143, ["interrupted in stage open; nothing was published"])
    assert content_of(conf.parent / "out") == "second"


def test_what_was_staged_and_is_still_there_is_named(conf: Path, tmp_path: Path) -> None:
    target = target_at(tmp_path / "other")
    config = job_config(conf)
    with target.lock("night"):
        staged = target.stage("night")
        staged.mkdir()
        told = interrupted_run("score", FolderTarget(target, config))
        assert told.startswith("interrupted in stage score; nothing was published; ")
        assert f"{staged} could not be removed" in told
        target.discard(staged)
        told = interrupted_run(None, FolderTarget(target, config))
        assert told == "interrupted in stage open; nothing was published"


@pytest.mark.spark
@pytest.mark.slow
def test_a_java_that_is_only_starting_is_ended_too(conf: Path) -> None:
    running = start([sys.executable, "-m", "kvspark.cli", "score", str(conf)], conf.parent)
    java: list[psutil.Process] = []
    while not java:
        assert running.poll() is None
        time.sleep(0.05)
        java = psutil.Process(running.pid).children()
    os.kill(running.pid, signal.SIGTERM)
    _, told = running.communicate(
        timeout=START_S
    )  # its end is the end of Java's standard error too
    assert ours(told.splitlines()) == ["interrupted in stage open; nothing was published"]
    assert running.returncode == 143
    assert not java[0].is_running()


@pytest.mark.spark
@pytest.mark.slow
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_run_that_is_interrupted_while_it_scores_leaves_the_old_output_alone(
    conf: Path, name: str, code: int
) -> None:
    folder = conf.parent
    running = start([sys.executable, "-m", "kvspark.cli", "score", str(conf)], folder)
    wait_until_stuck(folder, running)
    # As a terminal does it: to all processes of the group. And once more, by somebody who is impatient.
    for _ in range(2):
        os.killpg(running.pid, signal.Signals[name])
    _, told = running.communicate(timeout=START_S)
    assert ours(told.splitlines()) == ["interrupted in stage score; nothing was published"]
    assert running.returncode == code
    *_, last = read_history(folder / "out")
    assert (last.state, last.exit_code, last.phase) == ("interrupted", code, "score")
    assert last.message == "interrupted in stage score; nothing was published"
    assert content_of(folder / "out") == "second"
    left = {item.name for item in (folder / ".kvspark-out").iterdir()}
    assert left == {"kept", "unpublished.jsonl"}
    with target_at(folder / "out").lock("next"):
        pass


@pytest.mark.spark
@pytest.mark.slow
def test_a_run_that_is_interrupted_while_it_publishes_has_published(conf: Path) -> None:
    model = Model.from_callable(doubled, fingerprint="1", inputs=[X], outputs=[Y])
    model.save(conf.parent / "quick")
    path = f"model.path={conf.parent / 'quick'}"
    code, told = interrupted_at("synced", "SIGTERM", "score", str(conf), "--set", path)
    assert ours(told) == ["interrupted in stage publish; the new output is published"]
    assert code == 143
    assert pq.read_table(conf.parent / "out").num_rows == 50
    assert "second" in [version.label for version in target_at(conf.parent / "out").versions()]


@pytest.mark.spark
@pytest.mark.slow
def test_spark_submit_is_interrupted_with_the_same_code(conf: Path) -> None:
    folder = conf.parent
    submit = str(Path(sys.executable).with_name("spark-submit"))
    environ = {"PYTHONPATH": str(ROOT), "PYSPARK_PYTHON": sys.executable}
    command = [submit, "--master=local[2]", "jobs/score.py", str(conf)]
    running = start(command, folder, **environ)
    wait_until_stuck(folder, running)
    os.killpg(running.pid, signal.SIGTERM)
    running.communicate(timeout=START_S)
    assert running.returncode == 143
    ends = time.monotonic() + START_S
    while (folder / ".kvspark-out" / "lock").exists():  # Python cleans up after its JVM
        assert time.monotonic() < ends
        time.sleep(0.05)
    assert content_of(folder / "out") == "second"
    left = {item.name for item in (folder / ".kvspark-out").iterdir()}
    assert left == {"kept", "unpublished.jsonl"}


SWALLOWED = """
import os, signal, sys, time
from kvspark.cli.frame.interrupts import interruptible
from kvspark.spark.session.interrupt import Interrupted

class Finalized:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.2)

with interruptible():
    try:
        item = Finalized()
        del item
        print("lost", flush=True)
        time.sleep(60)
    except Interrupted as error:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)
        print(error.exit_code)
os.kill(os.getpid(), signal.SIGINT)
"""


def test_a_signal_that_arrives_in_a_finalizer_is_not_lost_and_later_ones_end_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SWALLOWED], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "lost\n143\n", "")
