"""What a first-time user gets wrong in the first hour is one clear line with an exit code, and nothing is written."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from pyspark.sql import SparkSession

from kvspark import cli
from kvspark.infer.model import Model
from tests.shipped.conftest import ROOT
from tests.small_models import Mlp, seeded

pytestmark = pytest.mark.spark

MOST_CHARACTERS = 400


@final
@dataclass(frozen=True)
class Mistake:
    """Something that is done to a job that works, and what is said of it."""

    do: Callable[[Path, pytest.MonkeyPatch], list[str]]
    """Spoils the folder, and returns what stands behind `kvspark score CONF`."""
    code: int
    said: tuple[str, ...]
    in_fresh_process: bool = False
    """Of what a session that runs already would not show. No JVM is started for it."""


def sets(*pairs: str) -> Callable[[Path, pytest.MonkeyPatch], list[str]]:
    return lambda _folder, _patched: [word for pair in pairs for word in ("--set", pair)]


def other_table(column: pa.Array) -> Callable[[Path, pytest.MonkeyPatch], list[str]]:
    def do(folder: Path, _: pytest.MonkeyPatch) -> list[str]:
        ids = pa.array(range(len(column)))
        pq.write_table(pa.table({"id": ids, "x": column}), folder / "rows/part.parquet")
        return []

    return do


def with_null() -> pa.Array:
    rows: list[list[float] | None] = [[1.0] * 8] * 20
    rows[7] = None
    return pa.array(rows, pa.list_(pa.float32()))


def pickled(folder: Path, _: pytest.MonkeyPatch) -> list[str]:
    (folder / "model.pth").write_bytes(b"\x80\x04not opened")
    return ["--set", f"model.path={folder / 'model.pth'}"]


def own_files(folder: Path, _: pytest.MonkeyPatch) -> list[str]:
    (folder / "out").mkdir()
    (folder / "out/thesis.txt").write_text("three years")
    return []


def without_java(folder: Path, patched: pytest.MonkeyPatch) -> list[str]:
    patched.delenv("JAVA_HOME", raising=False)
    patched.setenv("PATH", str(folder))
    return []


def wrong_java(folder: Path, patched: pytest.MonkeyPatch) -> list[str]:
    patched.setenv("JAVA_HOME", str(folder / "jdk"))
    return []


def without_keys(_: Path, patched: pytest.MonkeyPatch) -> list[str]:
    patched.delenv("KVSPARK_SEALING_KEYS", raising=False)
    return ["--set", "cache=redis://127.0.0.1:1"]


def tabbed(folder: Path, _: pytest.MonkeyPatch) -> list[str]:
    (folder / "score.yaml").write_text("run:\n\tname: first\n")
    return []


def locked(folder: Path, _: pytest.MonkeyPatch) -> list[str]:
    (folder / "file").write_text("x")
    return ["--set", f"output.path={folder / 'file/out'}"]


MISTAKES = {
    "path of the table": Mistake(sets("input.paths=[nowhere]"), 65, ("nowhere", "does not exist")),
    "column": Mistake(sets("inputs.x=features"), 65, ("'features'", "id, x")),
    "key of the conf": Mistake(sets("input.path=[rows]"), 64, ("input.path", "input.paths")),
    "value of a key": Mistake(
        sets("cache.timeout_ms=soon"), 64, ("cache.timeout_ms", "whole number")
    ),
    "type of a column": Mistake(other_table(pa.array(["a"] * 20)), 65, ("'x'", "string")),
    "width of a column": Mistake(
        other_table(pa.array([[1.0] * 7] * 20, pa.list_(pa.float32()))), 65, ("x", "7", "8")
    ),
    "a null": Mistake(other_table(with_null()), 65, ("'x'", "null")),
    "model": Mistake(sets("model.path=models/nowhere"), 65, ("models/nowhere",)),
    "a pickled model": Mistake(pickled, 65, ("model.pth", "pickle")),
    "name of an output": Mistake(sets("outputs={logits: score}"), 64, ("logits", "scores")),
    "name of an input": Mistake(sets("inputs={features: x}"), 64, ("features", "x")),
    "output that is not ours": Mistake(own_files, 73, ("out", "thesis.txt")),
    "output below a file": Mistake(locked, 73, ("file",)),
    "no java": Mistake(without_java, 64, ("Java 17", "JAVA_HOME"), in_fresh_process=True),
    "wrong JAVA_HOME": Mistake(wrong_java, 64, ("JAVA_HOME", "jdk"), in_fresh_process=True),
    "URL without its kind": Mistake(sets("cache=localhost:6379"), 64, ("redis://localhost:6379",)),
    "no sealing keys": Mistake(without_keys, 77, ("kvspark keygen", "cache.sealing.key_file")),
    "a password in the URL": Mistake(sets("cache=redis://:hunter2@h"), 64, ("password_file",)),
    "filter": Mistake(sets("input.filter=idd > 3"), 64, ("input.filter", "did you mean 'id'?")),
    "kind of store": Mistake(sets("cache=http://h:1"), 64, ("http:", "redis://HOST:PORT")),
    "half a placeholder": Mistake(
        sets("input.paths=['rows/{{ run.date']"), 64, ("input.paths.0", "{{ run.date }}")
    ),
    "no date": Mistake(sets("input.paths=['{{ run.date }}']"), 64, ("input.paths.0", "--run-date")),
    "column of the folders": Mistake(
        sets("output.partition_by=ids"), 64, ("output.partition_by", "did you mean 'id'?")
    ),
    "host of an output": Mistake(sets("output.path=file://host/out"), 64, ("host", "file:///")),
    "a tab": Mistake(tabbed, 64, ("line 2", "indent with spaces")),
    "no number of rows": Mistake(sets("model.micro_batch.rows=100"), 64, ("rows", "32")),
}


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A job that works."""
    (tmp_path / "rows").mkdir()
    x = np.random.default_rng(1).standard_normal((20, 8)).astype("float32")
    table = pa.table({"id": range(20), "x": list(x)})
    pq.write_table(table, tmp_path / "rows/part.parquet")
    Model.from_torch(seeded(Mlp()), {"x": torch.zeros(2, 8)}, name="m").save(tmp_path / "model")
    job = {
        "run": {"name": "first"},
        "input": {"paths": [str(tmp_path / "rows")]},
        "model": {"path": str(tmp_path / "model")},
        "cache": "memory://",
        "output": {"path": str(tmp_path / "out")},
    }
    path = tmp_path / "score.yaml"
    path.write_text(yaml.safe_dump(job))
    monkeypatch.chdir(tmp_path)
    return path


def test_the_job_works(spark: SparkSession, conf: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["score", str(conf)]) == 0, capfd.readouterr().err
    assert pq.read_table(conf.parent / "out").num_rows == 20


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line(
    spark: SparkSession,
    conf: Path,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    mistake = MISTAKES[name]
    more = mistake.do(conf.parent, monkeypatch)
    before = sorted(conf.parent.rglob("*"))
    command = ["score", str(conf), *more]
    if mistake.in_fresh_process:
        code, err = fresh(command)
    else:
        code, err = cli.run(command), capfd.readouterr().err
    assert code == mistake.code, err
    (line,) = (x for x in err.splitlines() if " INFO " not in x)  # of the phases before
    assert line.startswith("KVS-"), line
    assert len(line) <= MOST_CHARACTERS
    assert all(word in line for word in mistake.said), line
    assert "hunter2" not in line
    assert sorted(conf.parent.rglob("*")) == before


def fresh(command: list[str]) -> tuple[int, str]:
    """The exit code and standard error of the command in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "kvspark.cli", *command],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr
