"""A job with a rounded stage: it says so, and it does not start where a prediction would change."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from kvspark.errors import LossyCodecError
from kvspark.infer.model import Model
from kvspark.report.terminal import print_report
from kvspark.spark.jobs.job import run_score
from tests.redis_server import running_redis
from tests.spark.conftest import features
from tests.spark.small_jobs import job, published, write_night

pytestmark = [pytest.mark.spark, pytest.mark.redis]

ROUNDED = {"stages": {"trunk": {"cached": True, "codec": "bf16"}}}


def test_a_rounded_job_has_the_same_bits_cold_warm_and_without_a_cache_and_says_that_it_is_not_exact(
    spark: SparkSession, tmp_path: Path, mlp: Model, capsys
) -> None:
    mlp.save(tmp_path / "model")
    night = write_night(tmp_path / "night", 500)
    assert run_score(job(tmp_path, night), spark=spark).to_json()["lossy"] == {}
    exact = published(tmp_path / "out")
    with running_redis() as server:
        cache = {"url": server.url, "namespace": "n", "sealed": False, "timeout_ms": 5_000}
        cold = run_score(job(tmp_path, night, cache=cache, plan=ROUNDED), spark=spark)
        first = published(tmp_path / "out")
        only_trunk = {
            "stages": {**ROUNDED["stages"], "output": {"cached": False}},
        }
        warm = run_score(job(tmp_path, night, cache=cache, plan=only_trunk), spark=spark)
        assert published(tmp_path / "out").equals(first)
    assert cold.stats.stages["trunk"].hits == 0
    assert warm.stats.stages["trunk"].hits == 500
    run_score(job(tmp_path, night, plan=ROUNDED), spark=spark)
    assert published(tmp_path / "out").equals(first)
    assert first["label"].equals(exact["label"])
    assert not first["scores"].equals(exact["scores"])
    assert warm.to_json()["lossy"] == {"trunk": "bf16"}
    print_report(warm)
    assert "not exact: rounded on request (trunk bf16)" in capsys.readouterr().out


def test_a_job_whose_codec_changes_too_much_publishes_nothing(
    spark: SparkSession, tmp_path: Path, mlp: Model
) -> None:
    mlp.save(tmp_path / "model")
    night = write_night(tmp_path / "night", 300)
    strict = {**ROUNDED, "lossy_tolerance": 1e-7}
    with pytest.raises(LossyCodecError, match="nothing was written") as raised:
        run_score(job(tmp_path, night, plan=strict), spark=spark)
    assert raised.value.exit_code == 65
    assert not (tmp_path / "out").exists()


def test_a_rounded_run_has_another_id(tmp_path: Path) -> None:
    unnamed = {"id": None}
    exact = job(tmp_path, tmp_path, run=unnamed)
    rounded = job(tmp_path, tmp_path, run=unnamed, plan=ROUNDED)
    compressed = job(
        tmp_path,
        tmp_path,
        run=unnamed,
        plan={"stages": {"trunk": {"cached": True, "codec": "zstd"}}},
    )
    assert exact.run_id() == compressed.run_id() != rounded.run_id()


def test_a_bad_row_that_only_the_probe_sees_is_set_aside(
    spark: SparkSession, tmp_path: Path, mlp: Model
) -> None:
    mlp.save(tmp_path / "model")
    (tmp_path / "night").mkdir()
    x = [row.tolist() for row in features(200)]
    x[150] = [1.0]
    table = pa.table({"id": range(200), "x": pa.array(x, pa.list_(pa.float32()))})
    pq.write_table(table, tmp_path / "night/0.parquet")
    conf = job(tmp_path, tmp_path / "night", input={"on_bad_row": "null"}, plan=ROUNDED)
    assert run_score(conf, spark=spark).to_json()["lossy"] == {"trunk": "bf16"}
    made = published(tmp_path / "out")
    assert made["label"].null_count == 1
