"""Each promise of the docs on each way in: every source of models on every surface.

    rows      a row has the result of the model's own runtime, whatever its length, and none where that has none
    bits      the same bits without a cache, with a cold one, a warm one, and one that is not there
    shared    what one surface remembered all others find
    bad rows  a row that cannot be scored has no result, and changes no other row's
    order     a result for each row, in the rows' order
    saved     a model that was saved and loaded has the same fingerprint and the same bits

and those of plans, in test_plans.py.

All but `saved` are asked in one test for each cell, because a cell costs a Spark job for each question.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from kvspark.infer.model import Model
from tests.connect_server import connect_environment
from tests.guarantees.conftest import rows_of
from tests.guarantees.sources import SOURCES, output_of
from tests.guarantees.surfaces import Bits, Surface, by_job, by_predict, by_score, by_udf
from tests.guarantees.test_plans import PLAN_CELLS, PLAN_PROMISES, PLAN_REASONS
from tests.redis_server import RedisAddress

pytestmark = [pytest.mark.spark, pytest.mark.redis]

PROMISES = ("rows", "bits", "shared", "bad rows", "order", "saved", *PLAN_PROMISES)
SURFACES = ("predict", "score", "udf", "job", "connect")
NOBODY = "redis://127.0.0.1:1"
"""A port on which nothing listens."""

WRITTEN_REASONS = PLAN_REASONS | {
    (
        "saved",
        surface,
    ): "a job, score, udf and Connect ship the bundle, whose bytes a fingerprint is of: predict shows it"
    for surface in SURFACES[1:]
}
"""Cells without a test of their own, and why."""


@pytest.mark.parametrize("name", SOURCES)
def test_rows_are_those_of_the_models_own_runtime(
    name: str, models: dict[str, Model], right: dict[str, Bits]
) -> None:
    checked = models[name].verify({models[name].inputs[0].name: list(SOURCES[name].rows)})
    assert checked.is_independent
    assert checked.ok, str(checked)
    assert checked.compared >= len(SOURCES[name].rows) - 1
    bad = [row for row, value in enumerate(right[name]) if value is None]
    assert bad[0] == 2  # the null
    assert len(bad) == 1 + checked.bad_on_both


@pytest.fixture
def surfaces(spark: SparkSession, tmp_path: Path) -> dict[str, Surface]:
    """All surfaces of one process."""
    return {
        "predict": by_predict,
        "score": by_score(spark),
        "udf": by_udf(spark),
        "job": by_job(spark, tmp_path),
    }


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("surface", ["predict", "score", "udf", "job"])
def test_a_surface_gives_the_same_bits_cold_warm_and_without_its_cache(
    name: str,
    surface: str,
    models: dict[str, Model],
    right: dict[str, Bits],
    surfaces: dict[str, Surface],
    redis: RedisAddress,
) -> None:
    model, rows, kind = models[name], rows_of(name), SOURCES[name].type

    def made(by: str, url: str) -> Bits:
        return surfaces[by](model, output_of(name), rows, kind, url)

    redis.ask("FLUSHALL")
    assert made(surface, redis.url) == right[name]
    # A job also writes what it checked and what it has written, each time.
    before = 0 if surface == "job" else redis.count("set")
    assert redis.count("set") > 0
    assert made(surface, redis.url) == right[name]
    assert surface == "job" or redis.count("set") == before, "rows were computed again"
    before = redis.count("set")
    assert made("predict", redis.url) == right[name]
    assert redis.count("set") == before, f"predict does not find what {surface} remembered"
    assert made(surface, NOBODY) == right[name]


@pytest.mark.parametrize("name", SOURCES)
def test_a_model_that_was_saved_gives_the_same_bits(
    name: str, models: dict[str, Model], right: dict[str, Bits], tmp_path: Path
) -> None:
    models[name].save(tmp_path / "model")
    loaded = Model.load(tmp_path / "model")
    assert loaded.fingerprint == models[name].fingerprint
    made = by_predict(loaded, output_of(name), rows_of(name), SOURCES[name].type, None)
    assert made == right[name]


def test_a_session_of_spark_connect_gives_the_same_bits(
    models: dict[str, Model], right: dict[str, Bits], redis: RedisAddress, tmp_path: Path
) -> None:
    """Every source, cold, warm and without its cache; Spark allows one kind of session in a process."""
    redis.ask("FLUSHALL")
    asked = {}
    for name, model in models.items():
        model.save(tmp_path / model.name)
        asked[name] = [str(tmp_path / model.name), output_of(name), SOURCES[name].type]
    asked_file = tmp_path / "asked.json"
    asked_file.write_text(
        json.dumps({name: [*how, rows_of(name)] for name, how in asked.items()}), encoding="utf-8"
    )
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-m", "tests.guarantees.connect_program", str(asked_file), redis.url],
        env=connect_environment(root),
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    wanted = {n: [None if one is None else one.hex() for one in r] for n, r in right.items()}
    for surface in ("score", "udf"):
        for when in ("cold", "warm", "away"):
            assert told[surface][when] == wanted, (surface, when)


def test_every_cell_of_the_table_has_a_test_or_a_reason() -> None:
    asked = PLAN_CELLS | {
        (promise, surface)
        for surface in SURFACES
        for promise in PROMISES
        if promise not in PLAN_PROMISES and (promise != "saved" or surface == "predict")
    }
    whole = {(promise, surface) for promise in PROMISES for surface in SURFACES}
    assert asked | set(WRITTEN_REASONS) == whole
    assert not asked & set(WRITTEN_REASONS)
