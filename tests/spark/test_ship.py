"""The model's files on a host: written once, whole, private, and what the manifest says."""

from __future__ import annotations

import os
import secrets
import stat
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from pyspark.sql import SparkSession

from kvspark.errors import BundleError
from kvspark.infer.model import Model
from kvspark.infer.plan import Plan, StagePlan
from kvspark.spark import worker
from kvspark.spark.host_files import HostFiles
from kvspark.spark.score import task_spec
from kvspark.spark.ship import ship
from tests.small_models import Mlp, seeded

CONTENT = b"weights" * 1000
DIGEST = sha256(CONTENT).hexdigest()

# Notes in a file each time it is asked for the content.
WORKER = """
import sys
from pathlib import Path
from kvspark.spark.host_files import HostFiles

root, notes, digest = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]

def content():
    with notes.open("a") as file:
        file.write("asked\\n")
    return b"weights" * 1000

path = HostFiles(root).path(digest, 7000, content)
assert path.read_bytes() == b"weights" * 1000
"""


def never() -> bytes:
    raise AssertionError("asked for what is there")


def test_the_first_worker_writes_and_the_others_read(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-c",
        WORKER,
        str(tmp_path / "host"),
        str(tmp_path / "notes"),
        DIGEST,
    ]
    workers = [subprocess.Popen(command) for _ in range(4)]
    assert [running.wait() for running in workers] == [0, 0, 0, 0]
    assert (tmp_path / "notes").read_text() == "asked\n"


def test_files_are_private(tmp_path: Path) -> None:
    path = HostFiles(tmp_path / "host").path(DIGEST, len(CONTENT), lambda: CONTENT)
    assert stat.S_IMODE(path.stat().st_mode) == 0o400
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_other_bytes_than_the_manifest_says_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="other bytes"):
        HostFiles(tmp_path / "host").path(DIGEST, len(CONTENT), lambda: CONTENT + b"!")
    assert [path.name for path in (tmp_path / "host").iterdir()] == ["lock"]


def test_a_file_of_another_size_is_written_again(tmp_path: Path) -> None:
    files = HostFiles(tmp_path / "host")
    path = files.path(DIGEST, len(CONTENT), lambda: CONTENT)
    path.chmod(0o600)
    path.write_bytes(CONTENT[:10])
    assert files.path(DIGEST, len(CONTENT), lambda: CONTENT).read_bytes() == CONTENT


def test_a_folder_that_others_can_enter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "host").mkdir(mode=0o755)
    with pytest.raises(BundleError, match="of this user alone"):
        HostFiles(tmp_path / "host")


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir(mode=0o700)
    (tmp_path / "host").symlink_to(tmp_path / "other")
    with pytest.raises(BundleError, match="of this user alone"):
        HostFiles(tmp_path / "host")


def test_files_that_nobody_used_for_a_day_are_removed(tmp_path: Path) -> None:
    files = HostFiles(tmp_path / "host")
    old = files.path(DIGEST, len(CONTENT), lambda: CONTENT)
    os.utime(old, (0, 0))
    files.path(sha256(b"new").hexdigest(), 3, lambda: b"new")
    assert not old.exists()


def test_a_file_that_was_used_today_stays(tmp_path: Path) -> None:
    files = HostFiles(tmp_path / "host")
    old = files.path(DIGEST, len(CONTENT), lambda: CONTENT)
    os.utime(old, (0, 0))
    files.path(DIGEST, len(CONTENT), never)
    files.path(sha256(b"new").hexdigest(), 3, lambda: b"new")
    assert old.exists()


@pytest.mark.spark
def test_each_stage_has_a_broadcast_of_its_own(spark: SparkSession, mlp: Model) -> None:
    shipped = ship(spark, mlp.bundle)
    assert {name: sorted(b.value) for name, b in shipped.stages.items()} == {
        name: sorted(files) for name, files in mlp.bundle.stage_files.items()
    }


@pytest.mark.spark
def test_a_worker_keeps_two_predictors_and_uses_them_again(spark: SparkSession, mlp: Model) -> None:
    plans = [Plan({"output": StagePlan(cached=False)}, max_pending_rows=rows) for rows in (1, 2, 3)]
    specs = [task_spec(spark, mlp.bundle, None, plan) for plan in plans]

    def kept(batches):
        list(batches)
        first = worker.predictor_for(specs[0])
        again = worker.predictor_for(specs[0]) is first
        worker.predictor_for(specs[1])
        worker.predictor_for(specs[2])
        counts = [int(again), len(worker._kept), int(worker.predictor_for(specs[0]) is first)]
        yield pa.RecordBatch.from_arrays([pa.array(counts)], names=["n"])

    rows = spark.range(1, numPartitions=1).mapInArrow(kept, "n long").collect()
    assert [row.n for row in rows] == [1, 2, 0]


@pytest.mark.spark
def test_a_kept_predictor_opens_stages_from_the_job_that_runs_now(spark: SparkSession) -> None:
    # Weights that no earlier run has left on this host.
    model = Model.from_torch(
        seeded(Mlp(), seed=secrets.randbits(31)), {"x": torch.zeros(4, 8)}, cuts=["trunk"]
    )
    first, second = (task_spec(spark, model.bundle, None, None) for _ in range(2))

    def keeps(batches):
        list(batches)
        worker.predictor_for(first)
        time.sleep(0.5)  # so that the tasks meet in two workers
        yield pa.RecordBatch.from_arrays([pa.array([1])], names=["n"])

    def computes(batches):
        list(batches)
        kept = worker._kept.get((second.key, 1))
        paths = {b._path for b in kept.opener._shipped.stages.values()} if kept else set()
        stale = paths - {b._path for b in second.shipped.stages.values()}
        for path in stale:
            Path(path).unlink()  # as when Spark has cleaned the first job's broadcasts
        x = pa.array([[0.0] * 8], pa.list_(pa.float32()))
        made = worker.predictor_for(second).predict({"x": x})
        yield pa.RecordBatch.from_arrays([pa.array([len(made["label"]) * len(stale)])], names=["n"])

    spark.range(4, numPartitions=4).mapInArrow(keeps, "n long").collect()
    rows = spark.range(4, numPartitions=4).mapInArrow(computes, "n long").collect()
    assert any(row.n == len(first.shipped.stages) for row in rows)


def test_a_worker_that_has_no_row_yet_imports_no_torch_and_no_redis() -> None:
    code = (
        "import sys, kvspark.spark.score, kvspark.spark.worker;"
        "print(sorted({'torch', 'redis', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
