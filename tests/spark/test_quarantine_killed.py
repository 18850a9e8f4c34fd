"""A job that sets rows aside, killed while it publishes or read to its last file and log."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import yaml
from pyspark.sql import SparkSession

from kvspark.fault import FAULT_POINT_ENV
from kvspark.infer.model import Model
from kvspark.spark.jobs.job import run_score
from kvspark.spec import TensorSpec
from tests.callables import strict
from tests.faults.matrix import covers
from tests.spark.small_jobs import job, published
from tests.spark.test_job_killed import names_in, wait_until_gone

pytestmark = [pytest.mark.spark, pytest.mark.slow]

SECRET = "S3NTINEL"
NUMBER = -7_654_321.0
X = TensorSpec("x", "float32", (4,))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = Model.from_callable(
        strict, fingerprint="1", inputs=[X], outputs=[TensorSpec("y", "float32", (4,))]
    )
    model.save(tmp_path / "model")
    return tmp_path


def write_night(path: Path, bad: int, rows: int = 400) -> Path:
    """Rows of which every `bad`-th makes the function raise, and quote it."""
    path.mkdir()
    x = np.random.default_rng(bad).uniform(0, 1, (rows, 4)).astype("float32")
    x[bad - 1 :: bad] = NUMBER
    notes = [SECRET if row % bad == bad - 1 else "fine" for row in range(rows)]
    columns = {"id": np.arange(rows), "note": notes, "x": pa.array(list(x), pa.list_(pa.float32()))}
    pq.write_table(pa.table(columns), path / "rows.parquet")
    return path


def write_conf(folder: Path, night: Path) -> Path:
    conf = {
        "run": {"name": "small", "id": "night"},
        "input": {"paths": [str(night)], "on_bad_row": "quarantine", "id": "id"},
        "model": {"path": str(folder / "model")},
        "output": {"path": str(folder / "out"), "compression": "uncompressed"},
        "cache": f"embedded:{folder / 'cache'}",
        "spark": {
            "master": "local[2,4]",
            "conf": {"spark.eventLog.enabled": True, "spark.eventLog.dir": str(folder / "events")},
        },
    }
    (folder / "events").mkdir(exist_ok=True)
    (folder / "job.yaml").write_text(yaml.safe_dump(conf))
    return folder / "job.yaml"


def kvspark(conf: Path, **environ: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "kvspark.cli", "--debug", "score", str(conf)],
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def pair(output: Path) -> tuple[int, int]:
    """Rows of the output and of its quarantine."""
    aside = ds.dataset(output / "_kvspark" / "quarantine", format="parquet")
    return published(output).num_rows, aside.count_rows()


def files_in(path: Path) -> Iterator[Path]:
    return (item for item in path.rglob("*") if item.is_file())


def test_no_file_and_no_log_holds_what_a_bad_row_holds(folder: Path) -> None:
    night = write_night(folder / "night", 20)
    running = kvspark(write_conf(folder, night))
    told, _ = running.communicate(timeout=300)
    assert running.returncode == 0, told[-2000:].decode()
    assert b"20 bad rows: output ValueError 20; left out" in told
    assert pair(folder / "out") == (380, 20)
    aside = pq.read_table(folder / "out" / "_kvspark" / "quarantine")
    assert aside.column_names == ["id", "stage", "error", "message", "partition"]
    assert {value for name in ("stage", "error") for value in aside[name].to_pylist()} == {
        "output",
        "ValueError",
    }
    secrets = [SECRET.encode(), b"7654321", b"cannot score", np.float32(NUMBER).tobytes()]
    files = [*files_in(folder / "out"), *files_in(folder / "events"), *files_in(folder / "cache")]
    assert any(
        file.parent.parent.name == "events" or file.parent.name == "events" for file in files
    )
    for content in [told, *(file.read_bytes() for file in files)]:
        assert [secret for secret in secrets if secret in content] == []
    assert b'"Event"' in b"".join(file.read_bytes() for file in files_in(folder / "events"))
    # The night itself holds all of it: the search would have found it.
    assert SECRET.encode() in (night / "rows.parquet").read_bytes()


@covers("F39")
@pytest.mark.parametrize("fault", ["collected", "exchanged"])
def test_a_killed_run_leaves_an_output_and_its_own_quarantine(
    spark: SparkSession, folder: Path, fault: str
) -> None:
    first, second = write_night(folder / "first", 20), write_night(folder / "second", 10)
    aside = {"on_bad_row": "quarantine", "id": ["id"]}
    run_score(job(folder, first, input=aside), spark=spark)
    assert pair(folder / "out") == (380, 20)
    running = kvspark(write_conf(folder, second), **{FAULT_POINT_ENV: fault})
    assert running.communicate(timeout=300) is not None
    assert running.returncode == -signal.SIGKILL
    assert ("displaced" in names_in(folder / ".kvspark-out")) == (fault == "exchanged")
    assert pair(folder / "out") == ((380, 20) if fault == "collected" else (360, 40))
    report = json.loads((folder / "out" / "_kvspark" / "run.json").read_text())
    assert (report["rows_out"], report["rows_quarantined"]) == pair(folder / "out")
    wait_until_gone(running.pid)
    run_score(job(folder, second, input=aside), spark=spark)
    assert pair(folder / "out") == (360, 40)
    assert names_in(folder / ".kvspark-out") == {"kept"}
