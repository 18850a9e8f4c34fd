"""A job whose entries are bound to a column, and the purge of one of its values."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from pyspark.sql import SparkSession

import kvspark
from kvspark.cache.cache import Cache
from kvspark.cache.namespace import purge
from kvspark.cache.stage.tombstones import REFRESH_S
from kvspark.cli import run
from kvspark.config.cache import CacheConfig
from kvspark.errors import SchemaError, UsageError
from kvspark.infer.model import Model
from kvspark.plan.plan import Plan
from kvspark.spark.jobs.job import run_score
from kvspark.spark.runs.tally import Tally
from kvspark.spark.scoring.score import score
from tests.redis_server import running_redis
from tests.small_models import Towers, seeded
from tests.spark.conftest import features
from tests.spark.small_jobs import job, published

pytestmark = [pytest.mark.spark, pytest.mark.redis]


def write_rows(path: Path) -> Path:
    """200 rows of 50 values, of ten persons, one of whom is nobody."""
    path.mkdir()
    x = features(50)[[row % 50 for row in range(200)]]
    users = [None if row % 10 == 9 else f"person {row % 10}" for row in range(200)]
    pq.write_table(pa.table({"id": range(200), "x": list(x), "user": users}), path / "0.parquet")
    return path


def test_a_subject_is_purged_and_the_rows_of_all_others_still_hit(
    spark: SparkSession, tmp_path: Path, mlp: Model, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    # Workers that live on look at the list again after so long; nothing else holds an entry back here.
    monkeypatch.setattr(purge, "SETTLE_S", REFRESH_S + 1.0)
    mlp.save(tmp_path / "model")
    night = write_rows(tmp_path / "night")
    run_score(job(tmp_path, night), spark=spark)
    without = published(tmp_path / "out")
    with running_redis() as server:
        cache = {"url": server.url, "namespace": "n", "sealed": False, "timeout_ms": 5_000}
        conf = job(tmp_path, night, cache={**cache, "subject": "user"})
        first = run_score(conf, spark=spark)
        second = run_score(conf, spark=spark)
        assert published(tmp_path / "out").equals(without)
        distinct = first.stats.stages["output"].computed
        assert second.stats.stages["output"].hits == distinct
        (tmp_path / "score.yaml").write_text(yaml.safe_dump(conf.model_dump(mode="json")))
        (tmp_path / "subjects").write_text("person 3\n\n")
        assert (
            run(["purge", str(tmp_path / "score.yaml"), "--subject", f"{tmp_path}/subjects"]) == 0
        )
        # Person 3 and nobody have five values each, at each of two stages.
        assert "removed 20 entries; looked again: none is left" in capsys.readouterr().out
        third = run_score(conf, spark=spark)
        assert published(tmp_path / "out").equals(without)
        assert third.stats.stages["output"].hits == distinct - 10
        assert third.stats.cache_errors["erased"] == 20
        bare = job(tmp_path, night, cache=cache).model_dump(mode="json")
        (tmp_path / "score.yaml").write_text(yaml.safe_dump(bare))
        assert (
            run(["purge", str(tmp_path / "score.yaml"), "--subject", f"{tmp_path}/subjects"]) == 64
        )


def test_a_stage_that_is_computed_first_is_bound_to_subjects_too(
    spark: SparkSession, tmp_path: Path
) -> None:
    example = {"user": torch.zeros(4, 8), "item": torch.zeros(4, 6)}
    model = Model.from_torch(seeded(Towers()), example, cuts=["user", "item"])
    x = features(8).tolist()
    df = spark.createDataFrame(
        [(row, f"p{row // 8 % 4}", x[row % 8], x[row % 8][:6]) for row in range(64)],
        "id long, person string, user array<float>, item array<float>",
    )
    with running_redis() as server:
        cache = Cache(
            CacheConfig.checked(
                url=server.url, namespace="n", sealed=False, subject="person", timeout_ms=5_000
            )
        )
        stats, plan = Tally(spark), Plan(distinct_first=("user",))
        scored = score(df, model, cache=cache, plan=plan, stats=stats)
        without = score(df, model).toArrow().sort_by("id")
        assert scored.toArrow().sort_by("id").equals(without)
        assert stats.stats.stages["user"].computed == 32


def test_a_table_without_the_column_and_a_udf_are_refused(spark: SparkSession, mlp: Model) -> None:
    cache = Cache(CacheConfig.checked(url="memory://", namespace="n", subject="user"))
    df = spark.createDataFrame([([0.0] * 8, 0.5)], "x array<float>, user double")
    with pytest.raises(SchemaError, match="type double"):
        score(df, mlp, cache=cache)
    with pytest.raises(SchemaError, match=r"^subject names column .* 0 times"):
        score(df.drop("user"), mlp, cache=cache)
    with pytest.raises(UsageError, match=r"^subject binds .*kvspark\.score"):  # as Python calls it
        kvspark.udf(mlp, cache=cache)
