"""`kvspark.run`: a job from Python, beside a session that is active and without one."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pyspark.sql import SparkSession

import kvspark
from kvspark.errors import CacheRequiredError, DataError, UsageError
from kvspark.infer.model import Model
from kvspark.spark.runs.history import read_history
from kvspark.spec import TensorSpec
from tests.callables import doubled, stuck
from tests.small_models import Mlp, seeded
from tests.spark.small_jobs import job, published, write_night

ROOT = Path(__file__).parents[3]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Model.from_torch(seeded(Mlp()), {"x": torch.zeros(2, 8)}, name="mlp").save(tmp_path / "model")
    write_night(tmp_path / "night", 50)
    return tmp_path


def as_dict(folder: Path) -> dict[str, Any]:
    """The job, with the paths of Python."""
    return {
        "run": {"name": "small", "id": "night"},
        "input": {"paths": [folder / "night"]},
        "model": {"path": folder / "model"},
        "output": {"path": folder / "out"},
    }


def as_file(folder: Path) -> Path:
    path = folder / "job.json"
    path.write_text(json.dumps(as_dict(folder), default=str), encoding="utf-8")
    return path


def as_value(folder: Path) -> kvspark.JobConfig:
    return job(folder, folder / "night")


@pytest.mark.spark
@pytest.mark.parametrize("conf_of", [as_file, as_dict, as_value])
def test_a_file_a_dict_and_a_value_are_run_in_the_active_session(
    spark: SparkSession, folder: Path, conf_of: Callable[[Path], Any]
) -> None:
    expected = Model.load(folder / "model").predict(
        {"x": np.stack(pq.read_table(folder / "night")["x"].to_pylist()).astype("f4")}
    )
    report = kvspark.run(conf_of(folder))
    assert isinstance(report, kvspark.RunReport)
    assert (report.rows_in, report.rows_out, report.name) == (50, 50, "small")
    assert report.stats.rows == 50
    rows = published(folder / "out")
    for output, values in expected.items():
        made = np.stack(rows[output].to_numpy(zero_copy_only=False)).astype(values.dtype)
        assert made.tobytes() == values.tobytes()
    assert "RunReport('night', 50 rows" in repr(report)
    assert "50 rows" in report._repr_html_()
    assert spark.range(3).count() == 3  # it is not stopped


@pytest.mark.spark
def test_trouble_is_an_error_and_last_nights_output_stays(
    spark: SparkSession, folder: Path
) -> None:
    conf = as_dict(folder)
    kvspark.run(conf)
    before = published(folder / "out")
    with pytest.raises(UsageError, match=r"conf: unknown key inptus; did you mean inputs\?"):
        kvspark.run({**conf, "inptus": {}})
    with pytest.raises(DataError, match="nowhere") as caught:
        kvspark.run(conf, sets=[f"input.paths=[{folder / 'nowhere'}]"])
    assert caught.value.exit_code == 65
    assert published(folder / "out").equals(before)
    assert [path.name for path in folder.glob(".kvspark-out/*")] == ["unpublished.jsonl"]
    *_, last = read_history(folder / "out")
    assert (last.state, last.code, last.exit_code) == ("failed", "KVS-1100", 65)


@pytest.mark.spark
def test_a_required_cache_that_is_away_is_an_error(spark: SparkSession, folder: Path) -> None:
    conf = {
        **as_dict(folder),
        "cache": {"url": "redis://127.0.0.1:1", "sealed": False},
        "run": {"name": "small", "id": "night", "require_cache": True},
    }
    with pytest.raises(
        CacheRequiredError, match=r"not usable \(unavailable\); nothing was written"
    ):
        kvspark.run(conf)
    assert not (folder / "out").exists()
    conf["run"] = {"name": "small", "id": "night"}
    report = kvspark.run(conf)
    report.check_cache_was_used(is_required=False)
    with pytest.raises(
        CacheRequiredError, match=r"degraded \(unavailable\); the output is complete"
    ):
        report.check_cache_was_used(is_required=True)
    assert published(folder / "out").num_rows == 50


@pytest.mark.spark
def test_what_the_conf_asks_of_a_session_that_runs_already_is_named(
    spark: SparkSession, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    master = spark.sparkContext.master
    conf = {**as_dict(folder), "spark": {"master": master, "conf": {"spark.executor.memory": "9g"}}}
    with caplog.at_level(logging.WARNING, logger="kvspark"):
        kvspark.run(conf)
    told = [each.getMessage() for each in caplog.records if "session that is active" in each.msg]
    assert len(told) == 1
    assert "without its own spark.executor.memory;" in told[0]


def test_no_name_is_needed_for_a_connect_session_to_be_refused(folder: Path) -> None:
    class Remote:
        pass

    Remote.__module__ = "pyspark.sql.connect.session"
    remote: Any = Remote()
    with pytest.raises(UsageError, match=r"one of Spark Connect; .* nothing was written"):
        kvspark.run(as_value(folder), spark=remote)


ALONE = """
import json, sys
from pyspark import SparkContext
import kvspark
conf = json.loads(sys.argv[1])
partitions = []
for count in ("3", "4"):
    conf["spark"] = {"master": "local[2,4]", "conf": {"spark.default.parallelism": count}}
    report = kvspark.run(conf)
    assert SparkContext._active_spark_context is None
    partitions.append(report.rows_out)
try:
    kvspark.run(conf, sets=["model.path=/nowhere"])
except kvspark.KvsparkError as error:
    print(error.exit_code, partitions)
"""

INTERRUPTED = """
import json, os, signal, sys, threading, time
from pathlib import Path
import kvspark
conf, mark = json.loads(sys.argv[1]), Path(os.environ["KVSPARK_TEST_STUCK"])
def interrupt():
    while not mark.exists():
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGINT)
before = signal.getsignal(signal.SIGINT)
threading.Thread(target=interrupt, daemon=True).start()
try:
    kvspark.run(conf)
except KeyboardInterrupt as error:
    print(error, flush=True)
assert signal.getsignal(signal.SIGINT) is before
conf["model"]["path"] = sys.argv[2]
print(kvspark.run(conf).rows_out, flush=True)
"""


def python(script: str, *arguments: str, **environ: str) -> str:
    """What a process of its own prints, which has no session."""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        # A shell may have started the tests in the background, which ignores interrupts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def conf_text(folder: Path, **sections: Mapping[str, Any]) -> str:
    return json.dumps({**as_dict(folder), **sections}, default=str)


@pytest.mark.spark
@pytest.mark.slow
def test_without_a_session_each_run_has_one_of_its_own_conf_and_leaves_none(folder: Path) -> None:
    assert python(ALONE, conf_text(folder)).split() == ["65", "[50,", "50]"]
    assert published(folder / "out").num_rows == 50


@pytest.mark.spark
@pytest.mark.slow
def test_an_interrupt_is_a_keyboard_interrupt_and_the_next_run_is_right(tmp_path: Path) -> None:
    x, y = TensorSpec("x", "float32", (4,)), TensorSpec("y", "float32", (4,))
    for name, fingerprint in (("model", "1"), ("other", "2")):
        fn = stuck if name == "model" else doubled
        Model.from_callable(fn, fingerprint=fingerprint, inputs=[x], outputs=[y]).save(
            tmp_path / name
        )
    rows = {"id": range(50), "x": pa.array([np.ones(4, "f4")] * 50, pa.list_(pa.float32()))}
    (tmp_path / "night").mkdir()
    pq.write_table(pa.table(rows), tmp_path / "night" / "0.parquet")
    conf = conf_text(tmp_path, spark={"master": "local[2,4]"})
    told = python(
        INTERRUPTED,
        conf,
        str(tmp_path / "other"),
        KVSPARK_TEST_STUCK=str(tmp_path / "stuck"),
    )
    assert told.splitlines() == ["interrupted; nothing was published", "50"]
    assert published(tmp_path / "out")["y"].to_pylist() == [[2.0] * 4] * 50
