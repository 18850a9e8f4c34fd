"""`kvspark tune` on a small job, in the session that runs: what it measures, and what it leaves alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, final
from unittest.mock import Mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from kvspark import cli
from kvspark.errors import DataError, KvsparkError, LossyCodecError
from kvspark.infer.model import Model
from kvspark.spark.tuning import tune
from kvspark.spark.tuning.spark_measure import FIRST, NEXT, SparkMeasure
from kvspark.spark.tuning.tune import Limits, Setting, tune_job
from kvspark.tune.space import Candidate
from kvspark.tune.trial import Measured, Trial
from kvspark.tune.tuning import Outcome
from tests.redis_server import running_redis
from tests.spark.small_jobs import job, write_night

pytestmark = [pytest.mark.spark]

ROWS = 200


@pytest.fixture(autouse=True)
def quick(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sample is drawn, and scored once for a measurement."""
    monkeypatch.setattr(tune, "LEAST_S", 1e-9)


@pytest.fixture
def folder(tmp_path: Path, mlp: Model) -> Path:
    mlp.save(tmp_path / "model")
    write_night(tmp_path / "night", ROWS)
    return tmp_path


class Watching:
    def __init__(self) -> None:
        self.setting: Setting | None = None
        self.trials: list[Trial] = []

    def opened(self, setting: Setting) -> None:
        self.setting = setting

    def begins(self, number: int, candidate: Candidate, part: str) -> None:
        pass

    def ended(self, trial: Trial, best: Trial | None, baseline: float, part: str) -> None:
        self.trials.append(trial)


def conf_of(folder: Path, **sections: Any) -> Path:
    conf = folder / "job.yaml"
    values = job(folder, folder / "night", **sections)
    conf.write_text(json.dumps(values.model_dump(mode="json", exclude_defaults=True)))
    return conf


def tried(
    folder: Path, *, trials: int = 1, other_bits: bool = False, **sections: Any
) -> tuple[Outcome, Watching]:
    watching = Watching()
    limits = Limits(trials, 1.0, 0, other_bits)
    _, outcome = tune_job(conf_of(folder, **sections), (), limits, watching)
    return outcome, watching


def test_a_first_night_and_a_next_one_are_measured_and_the_jobs_store_is_left_alone(folder: Path):
    store = folder / "store"
    outcome, watching = tried(folder, cache={"url": f"embedded:{store}", "namespace": "small"})
    measured = outcome.trials[0].measured
    assert measured is not None
    assert measured.parts.keys() == {FIRST, NEXT}
    assert measured.troubles == ()
    assert watching.setting is not None
    assert watching.setting.store == "an embedded store of its own, removed at the end"
    # No output, no lock, no history, and no server on the job's store.
    assert {each.name for each in folder.iterdir()} == {"model", "night", "job.yaml"}


@final
class _Drawn:
    """A sample that has rows to count, and no more."""

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def first(self, rows: int) -> _Drawn:
        return _Drawn(rows)

    def rest(self, rows: int) -> _Drawn:
        return _Drawn(self.rows - rows)


@final
class _StartsSlowly:
    """Three seconds until the workers run, in the first measurement; a microsecond a row in all."""

    def __init__(self) -> None:
        self.sample, self.warm_up, self.repeats = _Drawn(0), _Drawn(0), 0
        self.samples: list[int] = []

    def __call__(self, candidate: Candidate) -> Measured:
        del candidate
        took_s = 1e-6 * self.sample.rows + (0.1 if self.samples else 3.0)
        self.samples.append(self.sample.rows)
        return Measured(
            self.sample.rows / took_s, {FIRST: self.sample.rows / took_s}, compute_s=1e-6
        )


def test_a_slow_start_of_the_workers_makes_no_small_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune, "LEAST_S", 1.0)
    monkeypatch.setattr(tune, "_cores", lambda _: 2)
    monkeypatch.setattr(tune, "sample_of", lambda *_, rows, **__: _Drawn(rows))
    measure: Any = _StartsSlowly()
    made: Any = Mock()
    made.source.rows = 1_000_000
    tune.fit(measure, Mock(), made, Mock(), seed=0)
    assert measure.samples[0] == tune.PILOT_ROWS
    assert measure.samples[-1] > 100 * tune.PILOT_ROWS


@pytest.mark.redis
def test_trials_in_a_shared_store_have_namespaces_of_their_own_that_end_soon(folder: Path):
    from kvspark.cache.cache import Cache

    with running_redis() as server:
        cache = {"url": server.url, "namespace": "small", "timeout_ms": 5_000}
        outcome, watching = tried(folder, cache=cache)
        assert watching.setting is not None
        assert watching.setting.store is not None
        assert "namespaces of their own" in watching.setting.store
        rows = {"x": [[0.0] * 8]}
        model = Model.load(folder / "model")
        before = Cache.connect(server.url, namespace="small", timeout_ms=5_000)
        model.predict(rows, cache=before)
        assert before.stats().hits == 0
    assert outcome.trials[0].measured is not None


def test_without_a_cache_computing_is_measured(folder: Path):
    outcome, watching = tried(folder)
    measured = outcome.trials[0].measured
    assert measured is not None
    assert list(measured.parts) == ["without a cache"]
    assert watching.setting is not None
    assert (watching.setting.of_rows, watching.setting.store) == (ROWS, None)


def test_a_store_that_is_away_is_said_and_computing_is_measured(folder: Path):
    cache = {"url": "redis://127.0.0.1:1", "namespace": "small"}
    _, watching = tried(folder, cache=cache)
    assert watching.setting is not None
    assert watching.setting.left_out is not None
    assert watching.setting.left_out.startswith("redis://127.0.0.1:1 is not usable")
    names = [option.name for option in watching.setting.space.options]
    assert names == []


def test_other_bits_are_compared_with_the_conf_and_a_codec_that_changes_a_label_fails(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    found: dict[str, Measured | str] = {}

    def each_alone(measure: SparkMeasure, candidate: Candidate) -> Measured:
        for single in candidate.space.singles():
            if single.changes_bits:
                try:
                    found[single.told] = original(measure, single)
                except LossyCodecError as error:
                    found[single.told] = str(error)
        return original(measure, candidate)

    original = SparkMeasure.__call__
    store = {"url": f"embedded:{folder / 'store'}", "namespace": "small"}
    plan = {"lossy_tolerance": 1e-4}
    outcome, _ = tried(folder, other_bits=True, cache=store, plan=plan)
    assert outcome.trials[0].measured is not None
    monkeypatch.setattr(
        "kvspark.spark.tuning.tune.Tuning.run",
        lambda self: each_alone(self._measure, self._space.baseline),
    )
    tried(folder, other_bits=True, cache=store, plan=plan)
    shapes = found["rows of a call 64"]
    assert isinstance(shapes, Measured)
    assert shapes.change is not None
    assert shapes.change < 1e-5
    assert isinstance(found["codec of trunk int8"], str)
    assert "KVS" not in found["codec of trunk int8"]


def test_an_input_without_rows_is_one_clear_line(folder: Path):
    for file in (folder / "night").iterdir():
        pq.write_table(pq.read_table(file).slice(0, 0), file)
    with pytest.raises(DataError, match="has no row to try the job on"):
        tried(folder)


def test_bad_rows_alone_are_one_clear_line(folder: Path):
    for file in (folder / "night").iterdir():
        table = pq.read_table(file)
        bad = pa.array([[0.0] * 3] * table.num_rows, pa.list_(pa.float32()))
        pq.write_table(table.set_column(1, "x", bad), file)
    with pytest.raises(KvsparkError, match=r"none of the .* rows of the sample can be scored"):
        tried(folder, input={"on_bad_row": "null"})


def test_the_command_prints_each_trial_and_ends_with_0(
    folder: Path, capsys: pytest.CaptureFixture[str]
):
    conf = conf_of(folder, cache={"url": "memory://tune", "namespace": "small"})
    assert cli.run(["tune", str(conf), "--trials", "1", "--seconds", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("trial 0: as it is ... ") and "rows/s" in line for line in lines)
    assert any(line.startswith("trial 1: codec of trunk zstd ... ") for line in lines)
    assert lines[-1] == "nothing was written" or lines[-1].startswith("written: ")
    assert (folder / "job.tuned.yaml").exists() == lines[-1].startswith("written: ")


def test_the_json_is_all_of_standard_output_and_the_best_is_a_conf(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    rates = {(): 100.0}
    monkeypatch.setattr(
        SparkMeasure,
        "__call__",
        lambda _, candidate: Measured(rates.get(tuple(candidate.sets), 150.0), {"night": 150.0}),
    )
    conf = conf_of(folder, cache={"url": "memory://tune", "namespace": "small"})
    arguments = ["tune", str(conf), "--trials", "2", "--json"]
    assert cli.run(arguments) == 0
    printed = capsys.readouterr()
    told = json.loads(printed.out)
    assert told["is_better"]
    assert told["best"]["sets"] == ["plan.stages.trunk.cached=true", "plan.stages.trunk.codec=zstd"]
    assert [trial["number"] for trial in told["trials"]] == [0, 1, 2]
    made = folder / "job.tuned.yaml"
    assert told["written"] == str(made)
    assert "codec of trunk: raw -> zstd; alone 1.50x" in made.read_text()
    assert cli.run(["check", str(made)]) == 0
    capsys.readouterr()
    assert cli.run(arguments) == 73
    assert "is there already; add --force" in capsys.readouterr().err
    assert np.isclose(told["gain"], 0.5)


def test_a_missing_extra_is_one_line_before_anything_is_opened(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    assert cli.run(["tune", str(conf_of(folder))]) == 64
    told = capsys.readouterr().err
    assert "pip install 'kvspark[tune]'" in told
    assert told.count("\n") == 1
