"""What needs no Spark is told before a session is opened: it takes seconds, and there may be no Java."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pyspark.sql import SparkSession

from kvspark.errors import KvsparkError
from kvspark.infer.model import Model
from kvspark.spark.check import opened as opened_module
from kvspark.spark.jobs import prepared_run
from kvspark.spark.jobs.job import run_score
from kvspark.spark.runs.history import read_history
from kvspark.spark.sources.find_input import find_input
from kvspark.spark.sources.input.source import read_source
from kvspark.spark.tables.footer_schema import schema_of
from kvspark.spark.tables.input_files import find_files
from tests.spark.publishing import publish, target_at
from tests.spark.small_jobs import job, write_night


class Doubled(torch.nn.Module):
    """A number a row, and twice as much."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + x


@pytest.fixture
def folder(tmp_path: Path, mlp: Model) -> Path:
    mlp.save(tmp_path / "model")
    write_night(tmp_path / "night", 20)
    return tmp_path


@pytest.fixture(autouse=True)
def no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*_: Any, **__: Any) -> None:
        raise AssertionError("a session was opened")

    monkeypatch.setattr(prepared_run, "open_session", opened)


def told(folder: Path, **sections: Any) -> tuple[int, str]:
    with pytest.raises(KvsparkError) as caught:
        run_score(job(folder, folder / "night", **sections))
    return caught.value.exit_code, str(caught.value)


def rewrite(night: Path, **columns: Any) -> None:
    for path in night.iterdir():
        pq.write_table(pa.table(columns), path)


def test_a_job_that_is_right_opens_a_session(folder: Path) -> None:
    with pytest.raises(AssertionError, match="a session was opened"):
        run_score(job(folder, folder / "night"))


@pytest.mark.parametrize(
    ("sections", "code", "text"),
    [
        ({"model": {"path": "gone"}}, 65, "gone does not exist"),
        ({"inputs": {"x": "gone"}}, 65, "no column 'gone'"),
        ({"inputs": {"gone": "x"}}, 64, "is no input of model"),
        (
            {"inputs": {"x": {"expr": "id + 1"}}},
            65,
            "by a list, also one alone: inputs: {x: [...]}",
        ),
        ({"inputs": {"x": {"expr": "id"}}}, 65, "expr 'id' is of type bigint, and the model takes"),
        ({"inputs": {"x": {"column": "id", "cast": "float"}}}, 65, "column 'id' is of type bigint"),
        ({"outputs": {"scores": "id"}}, 64, "the table has 'id' already"),
        ({"plan": {"stages": {"gone": {"cached": True}}}}, 64, "the plan names stage 'gone'"),
        ({"run": {"require_cache": True}}, 64, "there is no cache"),
        (
            {"cache": {"url": "redis://127.0.0.1:1/0", "required": True, "sealed": False}},
            69,
            "the cache is required",
        ),
        (
            {"cache": {"url": "memory://", "secret_env": "KVSPARK_TEST_GONE"}},
            77,
            "KVSPARK_TEST_GONE",
        ),
        ({"output": {"partition_by": "ids"}}, 64, "no column 'ids'; did you mean 'id'?"),
        ({"output": {"partition_by": "x"}}, 64, "of type array<float>, which no folder's name"),
        ({"output": {"partition_by": ["id", "id"]}}, 64, "names a column twice"),
        ({"output": {"partition_by": ["id", "x", "scores", "label"]}}, 64, "every column"),
        ({"cache": {"url": "memory://", "subject": "gone"}}, 65, "cache.subject names column"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_conf_opens_no_session(
    folder: Path, sections: dict[str, Any], code: int, text: str
) -> None:
    got, message = told(folder, **sections)
    assert got == code
    assert text in message
    assert not (folder / "out").exists()


def test_a_run_that_fails_has_a_line_in_the_history_of_its_own_output(folder: Path) -> None:
    publish(target_at(folder / "out"), "first")
    there = sorted(folder.rglob("*"))
    for sections, code in (
        ({"model": {"path": "gone"}}, "KVS-1200"),
        ({"input": {"paths": [str(folder / "gone")]}}, "KVS-1100"),
    ):
        told(folder, **sections)
        *_, run = read_history(folder / "out")
        assert (run.state, run.exit_code, run.code, run.run_id) == ("failed", 65, code, "night")
        assert run.message is not None
        assert "gone does not exist" in run.message
    beside = folder / ".kvspark-out"
    assert set(folder.rglob("*")) - set(there) == {beside, beside / "unpublished.jsonl"}


def test_a_run_that_may_not_start_has_a_line_and_the_other_goes_on(folder: Path) -> None:
    target = target_at(folder / "out")
    publish(target, "first")
    with target.lock("other"):
        code, _ = told(folder)
        assert code == 75
        *_, run = read_history(folder / "out")
        assert (run.state, run.code) == ("failed", "KVS-1402")


def test_beside_what_is_not_ours_nothing_is_written(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "mine.txt").touch()
    before = sorted(folder.rglob("*"))
    assert told(folder)[0] == 73
    assert told(folder, input={"paths": [str(folder / "gone")]})[0] == 65
    assert sorted(folder.rglob("*")) == before


def test_a_type_is_told_before_a_null_and_before_a_session(folder: Path) -> None:
    rewrite(folder / "night", id=[1, 2], x=[None, "text"])
    code, message = told(folder)
    assert code == 65
    assert "column 'x' (string)" in message


def test_missing_keys_are_told_before_the_model_is_opened(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(*_: Any) -> None:
        raise AssertionError("the model was opened")

    monkeypatch.setattr(opened_module, "open_model", opened)
    monkeypatch.delenv("KVSPARK_SEALING_KEYS", raising=False)
    code, message = told(folder, cache={"url": "redis://127.0.0.1:1"})
    assert code == 77
    assert "kvspark keygen" in message
    assert "kvspark check tells all faults at once" in message


def test_nulls_that_footers_tell_of_open_no_session(folder: Path) -> None:
    # A null array is told by no footer: one number a row.
    Model.from_torch(Doubled().eval(), {"x": torch.zeros(2)}).save(folder / "one")
    rewrite(folder / "night", id=[1, 2], x=pa.array([1.0, None], pa.float32()))
    code, message = told(folder, model={"path": str(folder / "one")})
    assert code == 65
    assert "column 'x': 1 null among 2 rows" in message


JAVA = """#!/bin/sh
touch "$(dirname "$0")/started"
exit 1
"""


@pytest.mark.parametrize("wrong", [True, False], ids=["no_model", "all_right"])
def test_the_command_starts_java_only_for_a_job_that_can_begin(
    folder: Path, *, wrong: bool
) -> None:
    java = folder / "java" / "bin"
    java.mkdir(parents=True)
    (java / "java").write_text(JAVA)
    (java / "java").chmod(0o755)
    conf = folder / "job.json"
    model = folder / ("gone" if wrong else "model")
    values = job(folder, folder / "night", model={"path": str(model)})
    conf.write_text(json.dumps(values.model_dump(mode="json", exclude_defaults=True)))
    done = subprocess.run(
        [sys.executable, "-m", "kvspark.cli", "score", str(conf)],
        env={**os.environ, "JAVA_HOME": str(java.parent), "SPARK_CONF_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (java / "started").exists() == (not wrong)
    assert done.returncode != 0
    if wrong:
        assert done.returncode == 65
        assert "gone does not exist" in done.stderr


@pytest.mark.spark
def test_footers_tell_the_schema_that_spark_reads(spark: SparkSession, tmp_path: Path) -> None:
    """From files of pyarrow with its own types in them, and from those of Spark."""
    table = pa.table(
        {
            "a": pa.array([1, 2], pa.uint8()),
            "b": pa.array([1, 2], pa.uint32()),
            "c": pa.array(["x", "y"]).dictionary_encode(),
            "d": pa.array([[1.0, 2.0]] * 2, pa.list_(pa.float32(), 2)),
            "e": pa.array([[[1]], [[2]]], pa.large_list(pa.list_(pa.int64()))),
            "f": pa.array(["x", "y"], pa.large_string()),
            "g": pa.array([b"x", b"y"], pa.large_binary()),
            "h": pa.array([b"xx", b"yy"], pa.binary(2)),
            "i": pa.array([True, False]),
            "j": pa.array([1, 2], pa.int16()),
            "k": pa.array([1.0, 2.0], pa.float64()),
        }
    )
    (tmp_path / "p" / "dt=1").mkdir(parents=True)
    pq.write_table(table, tmp_path / "p" / "dt=1" / "0.parquet")
    spark.read.parquet(str(tmp_path / "p")).write.parquet(str(tmp_path / "s"))
    for name in ("p", "s"):
        config = job(tmp_path, tmp_path / name).input
        expected = read_source(
            spark, config, find_input(config, settings={}, columns=["a"]), columns=["a"]
        ).df.schema
        ours = schema_of(find_files(config, columns=["a"]))
        assert [(f.name, f.dataType.simpleString()) for f in ours] == [
            (f.name, f.dataType.simpleString()) for f in expected
        ]
