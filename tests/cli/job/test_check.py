"""`kvspark check CONF`: every fault in one run, the exit code of the first, and nothing written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pyspark.sql import SparkSession

from kvspark import cli
from kvspark.infer import model as model_module
from kvspark.infer.model import Model
from kvspark.spark.check import decided
from kvspark.spark.check import rows as check_rows
from kvspark.spark.check.rows import time_text
from tests.redis_server import running_redis
from tests.small_models import Mlp, seeded
from tests.spark.small_jobs import job, write_night


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Model.from_torch(seeded(Mlp()), {"x": torch.zeros(2, 8)}, name="mlp").save(tmp_path / "model")
    write_night(tmp_path / "night", 50)
    return tmp_path


@pytest.fixture
def no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*_: Any, **__: Any) -> None:
        raise AssertionError("a session was opened")

    monkeypatch.setattr(check_rows, "open_session", opened)


def check(folder: Path, **sections: Any) -> int:
    conf = folder.parent / f"{folder.name}.json"
    values = job(folder, folder / "night", **sections)
    conf.write_text(json.dumps(values.model_dump(mode="json", exclude_defaults=True)))
    return cli.run(["check", str(conf)])


def everything(*folders: Path) -> dict[str, tuple[int, int]]:
    """All files and folders, with when and how large they were written."""
    return {
        str(path): (path.stat().st_mtime_ns, path.stat().st_size)
        for folder in folders
        for path in (folder, *folder.rglob("*"))
    }


# ---------------------------------------------------------------- a job that would run


@pytest.mark.spark
def test_a_job_that_would_run_is_0_and_nothing_is_written(
    spark: SparkSession,
    folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    here = tmp_path_factory.mktemp("here")
    monkeypatch.chdir(here)
    before = everything(folder, here)
    code = check(folder, input={"filter": "id >= 10"}, cache={"url": f"embedded:{folder}/cache"})
    printed = capsys.readouterr().out
    assert code == 0, printed
    assert everything(folder, here) == before
    for told in (
        "model: mlp",
        "input: 2 files with 50 rows before the filter",
        "plan, stage output: cached as raw, 20 B a row (by rule)",
        "plan: as above: of fewer than 10,000 rows nothing is measured",
        "its server was not started",
        f"output: {folder}/out (new)",
        "preflight: checked",
        "verify: ",
        "to compute 40 rows on 2 cores where nothing is cached",
        "entries: at most ",
    ):
        assert told in printed, told
    assert "bad " not in printed


@pytest.mark.spark
def test_a_run_that_will_measure_its_plan_is_told_so(
    spark: SparkSession,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(decided, "LEAST_ROWS", 50)
    cache = {"url": f"embedded:{folder}/cache"}

    def printed(**sections: Any) -> str:
        assert check(folder, cache=cache, **sections) == 0
        return capsys.readouterr().out

    assert "plan: the run measures stages and store first" in printed()
    assert "of fewer than 50 rows nothing is measured" in printed(input={"filter": "id > 0"})
    off = printed(plan={"mode": "off"})
    assert "plan: as above (plan.mode: off)" in off
    assert "plan, stage output: not cached (as plan.mode says)" in off
    pinned = printed(plan={"mode": "off", "stages": {"output": {"cached": True}}})
    assert "stage output: cached as raw, 20 B a row (as plan.stages.output says)" in pinned


@pytest.mark.spark
def test_rows_that_would_be_set_aside_are_counted_with_why(
    spark: SparkSession, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pq.read_table(folder / "night" / "0.parquet")
    given: list[Any] = table["x"].to_pylist()
    x = [None if row in (3, 4) else each for row, each in enumerate(given)]
    x[7] = given[7][:5]
    pq.write_table(
        table.set_column(1, "x", pa.array(x, table["x"].type)), folder / "night" / "0.parquet"
    )
    told = "3 of the first 50 rows: input NullValue 2 (input 'x' is null); input WrongValue 1 (input 'x': an array of 5"
    for policy, effect in (("quarantine", "_kvspark/quarantine)"), ("null", "null outputs)")):
        assert check(folder, input={"on_bad_row": policy}) == 0
        (line,) = [one for one in capsys.readouterr().out.splitlines() if "bad rows: " in one]
        assert line.startswith("warn")
        assert told in line
        assert line.endswith(effect)
    assert check(folder, input={"on_bad_row": "null", "max_bad_rows": 2}) == 65
    assert "3 of 50 rows are bad and 2 are allowed" in capsys.readouterr().out
    good = {"on_bad_row": "null", "filter": "id not in (3, 4, 7)"}
    assert check(folder, input=good) == 0
    assert "bad rows: none of the first 47 rows" in capsys.readouterr().out


@pytest.mark.spark
def test_a_column_that_would_set_rows_aside_is_named(
    spark: SparkSession, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = pa.array([None if row == 3 else 1.0 * row for row in range(50)])
    pq.write_table(pa.table({"id": range(50), "a": numbers}), folder / "night" / "0.parquet")
    (folder / "night" / "1.parquet").unlink()
    made = {"x": {"columns": ["a"] * 8, "cast": "float"}}
    assert check(folder, inputs=made, input={"on_bad_row": "quarantine"}) == 0
    told = "bad rows: 1 of the first 50 rows: input NullValue 1 (input 'x': column 'a' is null)"
    assert told in capsys.readouterr().out


@pytest.mark.spark
@pytest.mark.redis
def test_a_cache_that_answers_keeps_nothing_of_a_check(
    spark: SparkSession, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running_redis() as redis:
        assert check(folder, cache={"url": redis.url}) == 0
        assert "answers" in capsys.readouterr().out
        assert redis.ask("DBSIZE") == b":0\r\n"


@pytest.mark.spark
def test_rows_that_only_the_model_can_judge_are_a_fault(
    spark: SparkSession,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Drawn(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x - x.mean(dim=0, keepdim=True)

    path = folder / "script.pt"
    jit: Any = torch.jit
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        jit.trace(Drawn().eval(), torch.zeros(2, 8)).save(str(path))
    spec = Model.load(folder / "model").inputs[0]
    # As if the rows that are tried when a model is made had not shown it.
    monkeypatch.setattr(
        model_module, "tried", lambda bundle: bundle.with_own_rows(only_single=False)
    )
    Model.from_torchscript(path, inputs=[spec], outputs=[spec]).save(folder / "mixed")
    code = check(folder, model={"path": str(folder / "mixed")}, outputs={"x": "y"})
    assert code == 65
    assert "other bits" in capsys.readouterr().out


@pytest.mark.spark
def test_a_filter_that_is_none_is_a_usage_error(
    spark: SparkSession, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(folder, input={"filter": "idd > 3"}) == 64
    assert "is not a condition on this table" in capsys.readouterr().out


@pytest.mark.spark
def test_a_model_that_kvspark_has_wrong_is_a_fault(
    spark: SparkSession,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = seeded(Mlp(), 8)
    verify = Model.verify
    monkeypatch.setattr(Model, "verify", lambda self, c: verify(self, c, runtime=other))
    assert check(folder) == 65
    printed = capsys.readouterr().out
    assert "kvspark's rows are not those of eager torch (Mlp), first in row 0" in printed


# ---------------------------------------------------------------- a job that would not


def test_all_faults_are_told_in_one_run_and_the_first_gives_the_code(
    no_session: None, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "out").write_text("not a folder")
    before = everything(folder)
    code = check(
        folder,
        inputs={"x": "gone"},
        outputs={"scores": "ID", "label": "label"},
        plan={"stages": {"nowhere": {"cached": True}}},
        cache={"url": "redis://127.0.0.1:1/0", "secret_env": "KVSPARK_TEST_GONE"},
    )
    printed = capsys.readouterr().out
    assert code == 73  # what the run would fail with first
    assert everything(folder) == before
    faults = [line for line in printed.splitlines() if line.startswith("bad")]
    told = ["names stage 'nowhere'", "no column 'gone'", "has 'id' already", "TEST_GONE", "a file"]
    assert [text for text in told if not any(text in line for line in faults)] == []
    assert len(faults) == len(told)
    assert "no session is opened for a job that fails" in printed


def test_a_missing_model_and_a_missing_input_are_both_told(
    no_session: None, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = check(folder, model={"path": "gone"}, input={"paths": [str(folder / "nothing")]})
    printed = capsys.readouterr().out
    assert code == 65
    assert "gone does not exist" in printed
    assert "nothing does not exist" in printed


def test_types_are_told_of_every_column_and_before_nulls(
    no_session: None, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Sum(torch.nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
            return a + b + c

    one = torch.zeros(2)
    Model.from_torch(Sum().eval(), {"a": one, "b": one, "c": one}).save(folder / "sum")
    for path in (folder / "night").iterdir():
        path.unlink()
    numbers = pa.array([1.0, None], pa.float32())
    table = pa.table({"a": ["x", "y"], "b": [0.5, 1.5], "c": numbers})
    pq.write_table(table, folder / "night" / "0.parquet")
    assert check(folder, model={"path": str(folder / "sum")}) == 65
    printed = capsys.readouterr().out
    assert "column 'a' (string)" in printed
    assert "column 'b' (double)" in printed
    assert "nulls among" not in printed

    table = pa.table({"a": numbers, "b": pa.array([1.0, 2.0], pa.float32()), "c": numbers})
    pq.write_table(table, folder / "night" / "0.parquet")
    assert check(folder, model={"path": str(folder / "sum")}) == 65
    printed = capsys.readouterr().out
    assert "column 'a': 1 null among 2 rows" in printed
    assert "column 'c': 1 null among 2 rows" in printed


def test_a_cache_that_is_away_is_a_warning_unless_it_is_required(
    no_session: None, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    away = {"url": "redis://127.0.0.1:1/0"}
    (folder / "out").write_text("not a folder")
    assert check(folder, cache=away) == 73
    assert "warn   cache: redis://127.0.0.1:1/0 is not usable" in capsys.readouterr().out
    (folder / "out").unlink()
    assert check(folder, cache=away, run={"require_cache": True}) == 69
    assert check(folder, cache={**away, "required": True}) == 69


def test_no_java_is_told_with_the_rest(
    no_session: None,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(folder))
    assert check(folder, model={"path": "gone"}) == 64
    printed = capsys.readouterr().out
    assert "Java" in printed
    assert "gone does not exist" in printed
    assert check(folder) == 64


def test_a_conf_that_is_wrong_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    conf = tmp_path / "job.yaml"
    conf.write_text("run: {nam: x}\n", encoding="utf-8")
    assert cli.run(["check", str(conf)]) == 64
    assert "unknown key run.nam" in capsys.readouterr().err
    gone = ["--set", "cache.url=memory://", "--set", "cache.doorkeeper_bytes=65536"]
    conf.write_text("run: {name: x}\n", encoding="utf-8")
    assert cli.run(["check", str(conf), *gone]) == 64
    assert "cache.doorkeeper_bytes is gone: remove it" in capsys.readouterr().err


def test_an_embedded_store_that_cannot_be_made_is_a_warning(
    no_session: None, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    locked = folder / "locked"
    locked.mkdir(mode=0o500)
    check(folder, model={"path": "gone"}, cache={"url": f"embedded:{locked}/cache"})
    assert "cannot be written" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (8e-5, "less than 0.01 s"),
        (0.12, "about 0.12 s"),
        (12.0, "about 12 s"),
        (180.0, "about 3 minutes"),
    ],
)
def test_an_estimate_has_no_more_digits_than_it_knows(seconds: float, told: str) -> None:
    assert time_text(seconds) == told
