"""However the weights get to the workers, the rows are the same, and no more moves than must."""

from __future__ import annotations

import logging
import os
import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pyspark.errors import PythonException
from pyspark.sql import DataFrame, SparkSession
from redis import Redis

from kvspark.cache.cache import Cache
from kvspark.config.model import Way
from kvspark.errors import BundleError, UsageError
from kvspark.infer.model import Model
from kvspark.infer.resolve.compiled_plan import compiled_plan
from kvspark.spark.columns.column_map import ColumnMap
from kvspark.spark.jobs.job import run_score
from kvspark.spark.scoring.bad_rows import NoBadRows
from kvspark.spark.scoring.score import score, task_spec, with_outputs
from kvspark.spark.weights.by_broadcast import ByBroadcast
from kvspark.spark.weights.by_store import ByStore, by_store
from kvspark.spark.weights.ship import ship
from tests.redis_server import PATIENT_MS, RedisAddress, running_redis
from tests.small_models import Mlp, seeded
from tests.spark.conftest import features
from tests.spark.small_jobs import job, published, write_night

pytestmark = pytest.mark.spark

COLUMNS = ColumnMap({"x": "x"}, {"label": "label"})


@pytest.fixture
def redis() -> Iterator[RedisAddress]:
    with running_redis() as server:
        yield server


def fresh(seed: int | None = None) -> tuple[Any, Model]:
    """A module and its model, whose weights no earlier run has left on this host."""
    module = seeded(Mlp(), seed=seed or secrets.randbits(31))
    return module, Model.from_torch(module, {"x": torch.zeros(4, 8)}, cuts=["trunk"])


def on_host(model: Model) -> dict[str, bool]:
    """Whether this host has the weights of each stage in a file that workers share."""
    root = Path(tempfile.gettempdir(), f"kvspark-{os.getuid()}")
    files = model.bundle.files
    return {
        stage: (root / files[f"stages/{stage}/weights.safetensors"]["sha256"]).exists()
        for stage in ("trunk", "output")
    }


def labels(scored: DataFrame) -> list[int]:
    table = scored.select("id", "label").toArrow().sort_by("id")
    return table["label"].to_pylist()


def expected(model: Model) -> list[int]:
    return model.predict({"x": features()}, threads=1)["label"].tolist()


@pytest.mark.redis
@pytest.mark.parametrize("way", ["broadcast", "artifact", "path", "redis"])
def test_the_rows_are_the_same_whatever_the_way(
    table: DataFrame, tmp_path: Path, redis: RedisAddress, way: Way
) -> None:
    _, model = fresh()
    model.save(tmp_path / "model")
    model = Model.load(tmp_path / "model")
    cache = Cache.connect(redis.url, namespace="ways", timeout_ms=PATIENT_MS)
    scored = score(table, model, outputs={"label": "label"}, cache=cache, weights=way)
    assert labels(scored) == expected(model)
    assert on_host(model) == dict.fromkeys(("trunk", "output"), way != "path")


def test_by_path_the_driver_reads_the_manifest_and_nothing_else(
    spark: SparkSession, tmp_path: Path
) -> None:
    _, model = fresh()
    model.save(tmp_path / "model")
    for file in (tmp_path / "model" / "stages").rglob("*.*"):
        file.write_bytes(b"damaged")
    shipped = ship(spark, Model.load(tmp_path / "model").bundle, "path")
    assert shipped.manifest == model.bundle.manifest


def test_by_path_a_worker_refuses_other_bytes(table: DataFrame, tmp_path: Path) -> None:
    _, model = fresh()
    model.save(tmp_path / "model")
    with (tmp_path / "model/stages/output/weights.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"!")
    with pytest.raises(PythonException, match=r"errors\.BundleError: .* other bytes"):
        score(table, Model.load(tmp_path / "model"), weights="path").collect()


def test_by_path_a_model_must_be_saved(spark: SparkSession) -> None:
    with pytest.raises(UsageError, match="is in no folder that workers could open"):
        ship(spark, fresh()[1].bundle, "path")


def test_a_damaged_file_is_found_on_the_driver_before_it_is_sent(
    spark: SparkSession, tmp_path: Path
) -> None:
    fresh()[1].save(tmp_path / "model")
    (tmp_path / "model/stages/trunk/graph.json").write_bytes(b"{}")
    bundle = Model.load(tmp_path / "model").bundle
    for way in ("broadcast", "artifact"):
        with pytest.raises(BundleError, match="the bundle is damaged"):
            ship(spark, bundle, way)


@pytest.mark.parametrize("url", [None, "memory://"])
def test_by_redis_there_must_be_a_store_that_workers_reach(
    spark: SparkSession, url: str | None
) -> None:
    config = (
        None if url is None else Cache.connect(url, namespace="ways", timeout_ms=PATIENT_MS).config
    )
    with pytest.raises(UsageError, match="a cache that the workers can reach"):
        ship(spark, fresh()[1].bundle, "redis", config)


# ---------------------------------------------------------------- redis: what changed, what is run


def change(module: Any, *names: str) -> Model:
    with torch.no_grad():
        for name in names:
            module.get_parameter(name).add_(1)
    return Model.from_torch(module, {"x": torch.zeros(4, 8)}, cuts=["trunk"])


@pytest.mark.redis
def test_a_new_version_sends_the_tensors_that_changed_and_no_others(redis: RedisAddress) -> None:
    config = Cache.connect(redis.url, namespace="ways", timeout_ms=PATIENT_MS).config
    module, model = fresh()
    all_bytes = sum(saved["size_bytes"] for saved in model.bundle.files.values())

    def sent(model: Model) -> int:
        shipped = by_store(model.bundle, config)
        assert shipped is not None
        return shipped.sent_bytes

    # All, but once what two stages have in common.
    assert 0.8 * all_bytes < sent(model) <= all_bytes
    assert sent(model) == 0
    assert sent(change(module, "head.bias")) == 3 * 4
    assert sent(change(module, "head.weight", "head.bias")) == 3 * 16 * 4 + 3 * 4


@pytest.mark.redis
def test_a_worker_fetches_the_stages_that_it_runs_and_no_others(
    table: DataFrame, tmp_path: Path, redis: RedisAddress
) -> None:
    module, model = fresh()
    model.save(tmp_path / "model")
    cache = Cache.connect(redis.url, namespace="ways", timeout_ms=PATIENT_MS)
    # By path, so that the trunk's results are in the cache and its weights not on the host.
    score(table, Model.load(tmp_path / "model"), cache=cache, weights="path").collect()
    retrained = change(module, "head.bias")
    assert labels(score(table, retrained, cache=cache, weights="redis")) == expected(retrained)
    assert on_host(retrained) == {"trunk": False, "output": True}


def lost(model: Model, redis: RedisAddress, *, folder: str | None) -> ByStore:
    """`model` shipped to a store that loses everything afterwards."""
    shipped = by_store(
        model.bundle, Cache.connect(redis.url, namespace="ways", timeout_ms=PATIENT_MS).config
    )
    assert shipped is not None
    with Redis.from_url(redis.url) as client:
        client.flushall()
    return replace(shipped, folder=folder)


@pytest.mark.redis
def test_what_the_store_has_lost_comes_from_the_folder(
    spark: SparkSession, table: DataFrame, tmp_path: Path, redis: RedisAddress
) -> None:
    _, model = fresh()
    model.save(tmp_path / "model")
    shipped = lost(model, redis, folder=str(tmp_path / "model"))
    spec = replace(task_spec(spark, compiled_plan(model.bundle), None), shipped=shipped)
    assert labels(with_outputs(table, COLUMNS, model.bundle, spec, None, NoBadRows())) == expected(
        model
    )
    assert on_host(model) == {"trunk": False, "output": False}


@pytest.mark.redis
def test_what_is_nowhere_is_an_error_that_may_pass(
    spark: SparkSession, table: DataFrame, redis: RedisAddress
) -> None:
    _, model = fresh()
    shipped = lost(model, redis, folder=None)
    spec = replace(task_spec(spark, compiled_plan(model.bundle), None), shipped=shipped)
    with pytest.raises(PythonException, match=r"errors\.WeightsUnavailableError: .*try again"):
        with_outputs(table, COLUMNS, model.bundle, spec, None, NoBadRows()).collect()


@pytest.mark.redis
def test_a_store_that_takes_nothing_is_no_way(
    spark: SparkSession, redis: RedisAddress, caplog: pytest.LogCaptureFixture
) -> None:
    _, model = fresh()
    absent = Cache.connect("redis://127.0.0.1:1", namespace="ways").config
    with caplog.at_level(logging.WARNING):
        shipped = ship(spark, model.bundle, "redis", absent)
    assert isinstance(shipped, ByBroadcast)
    assert "did not take the weights: broadcast" in caplog.text


@pytest.mark.redis
@pytest.mark.parametrize("way", ["path", "redis"])
def test_a_job_takes_the_way_of_its_conf(
    spark: SparkSession, tmp_path: Path, redis: RedisAddress, way: Way
) -> None:
    _, model = fresh()
    model.save(tmp_path / "model")
    conf: dict[str, Any] = {
        "model": {"weights": way},
        "cache": {"url": redis.url, "namespace": "ways", "timeout_ms": PATIENT_MS},
    }
    run_score(job(tmp_path, write_night(tmp_path / "night"), **conf), spark=spark)
    found = np.array(published(tmp_path / "out")["label"].to_pylist())
    wanted = model.predict({"x": features(200)}, threads=1)["label"]
    assert (found == wanted).all()
    assert on_host(model)["trunk"] is (way == "redis")


@pytest.mark.redis
def test_a_job_whose_store_has_lost_the_weights_goes_on_by_broadcast(
    spark: SparkSession,
    tmp_path: Path,
    redis: RedisAddress,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    _, model = fresh()
    model.save(tmp_path / "model")
    # On a cluster whose workers do not see the model's folder.
    monkeypatch.setattr(
        "kvspark.spark.weights.ship.by_store",
        lambda bundle, config: lost(Model(bundle), redis, folder=None),
    )
    conf: dict[str, Any] = {"model": {"weights": "redis"}}
    conf["cache"] = {"url": redis.url, "namespace": "ways", "timeout_ms": PATIENT_MS}
    with caplog.at_level(logging.WARNING):
        report = run_score(job(tmp_path, write_night(tmp_path / "night"), **conf), spark=spark)
    assert "the store has lost the weights: once more, by broadcast" in caplog.text
    assert (report.rows_out, report.stats.rows) == (200, 200)
    found = np.array(published(tmp_path / "out")["label"].to_pylist())
    assert (found == model.predict({"x": features(200)}, threads=1)["label"]).all()
