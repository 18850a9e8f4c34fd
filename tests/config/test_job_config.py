"""What a job's conf is beyond its fields: run ids, Spark settings, the reference, the example."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from kvspark.config.job import JobConfig
from kvspark.config.reading.load import load_job_config
from kvspark.config.reading.reference import BEGIN, END, conf_reference, main, with_reference
from kvspark.config.section.secret import holds_secret
from kvspark.errors import UsageError
from kvspark.spec import MicroBatch

ROOT = Path(__file__).parents[2]


def job(**values: Any) -> JobConfig:
    return JobConfig.checked(
        **{
            "run": {"name": "nightly"},
            "input": {"paths": ["in"]},
            "model": {"path": "bundle"},
            "output": {"path": "out"},
            **values,
        }
    )


def test_a_job_survives_pickle() -> None:
    config = job(cache="redis://h", plan={"stages": {"trunk": {"cached": True}}})
    assert pickle.loads(pickle.dumps(config)) == config


def test_a_given_run_id_is_taken_as_it_is() -> None:
    assert job(run={"name": "nightly", "id": "2026-01-01"}).run_id() == "2026-01-01"


def test_a_derived_run_id_is_the_same_for_the_same_job() -> None:
    """Also in the next release: a rerun after an upgrade replaces, and does not add."""
    assert job().run_id() == job().run_id() == "nightly-24aebc0b9135"


@pytest.mark.parametrize(
    "values",
    [
        {"run": {"name": "nightly", "logical_date": "2026-01-02"}},
        {"input": {"paths": ["in2"]}},
        {"input": {"paths": ["in"], "partitions": {"dt": "2026-01-02"}}},
        {"model": {"path": "bundle2"}},
        {"output": {"path": "out2"}},
        {"outputs": {"a": "b"}},
    ],
    ids=["date", "input", "partition", "model", "output", "outputs"],
)
def test_a_derived_run_id_follows_what_is_computed(values: dict[str, Any]) -> None:
    assert job(**values).run_id() != job().run_id()


@pytest.mark.parametrize(
    "values",
    [
        {"cache": "redis://h"},
        {"plan": {"max_pending_rows": 8}},
        {"spark": {"master": "local[2]"}},
        {"run": {"name": "nightly", "require_cache": True}},
    ],
    ids=["cache", "plan", "spark", "require_cache"],
)
def test_a_derived_run_id_does_not_follow_how_it_is_computed(values: dict[str, Any]) -> None:
    assert job(**values).run_id() == job().run_id()


@pytest.mark.parametrize("name", ["a b/c", "..", "ä", "n" * 300, "-x"])
def test_a_derived_run_id_names_a_folder(name: str) -> None:
    run_id = job(run={"name": name, "logical_date": "2026-01-01T00:00:00+00:00"}).run_id()
    assert job(run={"name": name, "id": run_id}).run_id() == run_id


def test_a_micro_batch_of_the_conf_is_one_of_the_model() -> None:
    config = job(model={"path": "bundle", "micro_batch": {"rows": 64}})
    assert config.model.micro_batch is not None
    assert config.model.micro_batch.value() == MicroBatch(rows=64)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("spark.hadoop.fs.s3a.secret.key", "x", True),
        ("spark.hadoop.fs.s3a.access.key", "x", True),
        ("spark.hadoop.fs.azure.account.key.a.dfs.core.windows.net", "x", True),
        ("spark.ssl.keyStorePassword", "x", True),
        ("spark.authenticate.secret", "x", True),
        ("spark.kvspark.redis.password", "x", True),
        ("spark.executorEnv.API_KEY", "x", True),
        ("spark.kvspark.url", "redis://:x@h", True),
        ("spark.driver.extraJavaOptions", "-Djavax.net.ssl.trustStorePassword=x", True),
        ("spark.authenticate.secret.file", "/run/secret", False),
        ("spark.hadoop.fs.s3a.aws.credentials.provider", "com.example.Provider", False),
        ("spark.security.credentials.hive.enabled", "false", False),
        ("spark.kubernetes.driver.secrets.redis", "/run/secrets", False),
        ("spark.kubernetes.executor.secretKeyRef.PW", "redis:password", False),
        ("spark.executor.memory", "4g", False),
        ("spark.sql.warehouse.dir", "abfss://c@account.dfs.core.windows.net/w", False),
    ],
)
def test_a_spark_setting_that_holds_a_secret_is_seen(key: str, value: str, expected: bool) -> None:
    assert holds_secret(key, value) is expected


def test_the_example_conf_is_a_conf() -> None:
    config = load_job_config(ROOT / "conf/score.yaml", environ={})
    assert config.cache is not None
    assert config.cache.namespace == config.run.name == "glosses"


def test_the_example_conf_shows_the_defaults() -> None:
    config = load_job_config(ROOT / "conf/score.yaml", environ={})
    shown = config.model_dump(exclude_defaults=True)
    assert set(shown) == {"run", "input", "model", "inputs", "outputs", "cache", "output", "spark"}
    assert set(shown["cache"]) == {"url", "namespace", "sealing"}


def test_every_field_is_described() -> None:
    for line in conf_reference().splitlines()[2:]:
        _, key, kind, default, meaning, _ = (cell.strip() for cell in line.split("|"))
        assert key.startswith("`")
        assert kind
        assert default
        assert meaning.endswith(".")


def test_the_reference_is_written_between_the_markers(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    main([str(page)])
    text = page.read_text(encoding="utf-8")
    assert text == f"before\n{BEGIN}\n{conf_reference()}{END}\nafter\n"
    assert with_reference(text) == text


def test_a_page_without_markers_is_refused() -> None:
    with pytest.raises(UsageError, match="has no <!-- conf:begin -->"):
        with_reference("nothing")


def test_the_page_of_the_conf_has_the_current_reference() -> None:
    """Mend it with: python -m kvspark.config.reading.reference docs/conf.md."""
    text = (ROOT / "docs/conf.md").read_text(encoding="utf-8")
    assert text == with_reference(text)
