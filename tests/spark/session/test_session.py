"""The session: where its master comes from, and that no setting gives a secret away."""

from __future__ import annotations

import logging
import re

import pytest
from pyspark.sql import SparkSession

from kvspark.config.job import SparkConfig
from kvspark.errors import UsageError
from kvspark.spark.session import session
from kvspark.spark.session.session import check_settings, open_session


@pytest.mark.parametrize(
    "key",
    [
        "spark.kvspark.redis.password",
        "spark.executorEnv.REDIS_PASSWORD",
        "spark.yarn.appMasterEnv.KVSPARK_SECRET",
    ],
)
def test_a_secret_in_a_setting_is_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(UsageError, match="looks like a secret") as caught:
        check_settings({key: "hunter2"})
    assert "hunter2" not in str(caught.value)


def test_a_url_with_a_password_is_a_secret() -> None:
    with pytest.raises(UsageError, match=r"spark\.kvspark\.cache"):
        check_settings({"spark.kvspark.cache": "redis://:hunter2@host:6379"})


def test_other_settings_pass() -> None:
    check_settings({"spark.executor.memory": "4g", "spark.executorEnv.OMP_NUM_THREADS": "1"})


def test_the_master_is_the_confs_then_spark_submits_then_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PYSPARK_GATEWAY_PORT", raising=False)
    assert session.master_of(SparkConfig(master="yarn")) == "yarn"
    assert session.master_of(SparkConfig()) == "local[*,4]"
    monkeypatch.setenv("PYSPARK_GATEWAY_PORT", "1")
    assert session.master_of(SparkConfig()) is None


@pytest.mark.spark
def test_a_running_session_is_used(spark: SparkSession) -> None:
    assert open_session(SparkConfig(app_name="another"), name="job") is spark


@pytest.mark.spark
def test_a_session_that_takes_seconds_to_start_is_announced(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(SparkSession, "getActiveSession", lambda: None)
    with caplog.at_level(logging.INFO, logger=session.__name__):
        assert open_session(SparkConfig(master="local[2,4]"), name="job") is spark
    assert "start: Spark, master local[2,4]" in caplog.messages


@pytest.mark.spark
@pytest.mark.parametrize(
    "name", ["url", "auth", "credential", "passwd", "key.kek", "password", "api-key"]
)
def test_spark_hides_what_may_be_a_secret(spark: SparkSession, name: str) -> None:
    pattern = spark.conf.get("spark.redaction.regex")
    assert pattern is not None
    assert re.search(pattern, f"spark.kvspark.redis.{name}")
