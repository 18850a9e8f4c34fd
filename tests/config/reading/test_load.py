"""Conf file, then environment, then --set; what is wrong is told in one line that says where."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from kvspark.config.inputs import InputColumns
from kvspark.config.job import JobConfig
from kvspark.config.reading.load import job_config, load_job_config
from kvspark.errors import UsageError

MINIMAL = """\
run: {name: nightly}
input: {paths: [in]}
model: {path: bundle}
output: {path: out}
"""

Load = Callable[..., JobConfig]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    monkeypatch.chdir(tmp_path)

    def load(
        text: str = MINIMAL, sets: Sequence[str] = (), environ: Mapping[str, str] | None = None
    ) -> JobConfig:
        Path("job.yaml").write_text(text, encoding="utf-8")
        return load_job_config("job.yaml", sets=sets, environ=environ or {})

    return load


def test_a_minimal_conf_is_enough(load: Load) -> None:
    config = load()
    assert config.input.paths == (str(Path.cwd() / "in"),)
    assert config.cache is None
    assert config.output.compression == "zstd"


def test_the_environment_goes_before_the_file_and_set_before_both(load: Load) -> None:
    text = MINIMAL + "plan: {max_pending_rows: 1, max_held_bytes: 1}\nspark: {app_name: file}\n"
    environ = {"KVSPARK__PLAN__MAX_PENDING_ROWS": "2", "KVSPARK__PLAN__MAX_HELD_BYTES": "2"}
    config = load(text, ["plan.max_held_bytes=3"], environ)
    assert (config.plan.max_pending_rows, config.plan.max_held_bytes) == (2, 3)
    assert config.spark.app_name == "file"


def test_the_environment_of_the_process_is_read(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load()
    monkeypatch.setenv("KVSPARK__RUN__ID", "tonight")
    assert load_job_config(tmp_path / "job.yaml").run.id == "tonight"
    assert "KVSPARK__RUN__ID" in os.environ


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("run.id=20260101", "run.id", "20260101"),
        ("run.id=2026-01-01", "run.id", "2026-01-01"),
        ("input.paths=[a, b]", "input.paths", ("a", "b")),
        ("input.filter=label = 'x'", "input.filter", "label = 'x'"),
        ("input.partitions.dt=2026-01-01", "input.partitions", {"dt": "2026-01-01"}),
        ("input.partitions.hour=05", "input.partitions", {"hour": "05"}),
        ("input.partitions.hour=5", "input.partitions", {"hour": "5"}),
        ("input.fail_on_empty=true", "input.fail_on_empty", True),
        ("model.micro_batch={rows: 8}", "model.micro_batch.rows", 8),
        ("model.micro_batch.tokens=64", "model.micro_batch.tokens", 64),
        ("inputs.text=gloss", "inputs", {"text": InputColumns.checked(column="gloss")}),
        ("outputs={label: x}", "outputs", {"label": "x"}),
        ("spark.conf.spark.executor.memory=4g", "spark.conf", {"spark.executor.memory": "4g"}),
        ("spark.conf.spark.ui.enabled=false", "spark.conf", {"spark.ui.enabled": "false"}),
        ("spark.conf.spark.task.cpus=2", "spark.conf", {"spark.task.cpus": "2"}),
        ("run.id=", "run.id", None),
    ],
)
def test_set_replaces_a_value(load: Load, override: str, path: str, value: Any) -> None:
    found: Any = load(sets=[override])
    for part in path.split("."):
        found = getattr(found, part)
    assert found == value


def test_a_stage_name_may_hold_dots(load: Load) -> None:
    sets = ["plan.stages.encoder.layer.2.cached=true", "plan.stages.encoder.out={cached: false}"]
    stages = load(sets=sets).plan.stages
    assert {name: stage.cached for name, stage in stages.items()} == {
        "encoder.layer.2": True,
        "encoder.out": False,
    }


def test_free_keys_of_the_environment_keep_their_case(load: Load) -> None:
    environ = {
        "KVSPARK__INPUT__PARTITIONS__eventDate": "2026-01-01",
        "KVSPARK__PLAN__STAGES__trunk__CACHED": "false",
        "KVSPARK__SPARK__CONF__spark__executor__memoryOverhead": "1g",
    }
    config = load(environ=environ)
    assert config.input.partitions == {"eventDate": "2026-01-01"}
    assert not config.plan.stages["trunk"].cached
    assert config.spark.conf == {"spark.executor.memoryOverhead": "1g"}


def test_a_bare_url_is_a_cache_of_the_jobs_name(load: Load) -> None:
    for config in (
        load(sets=["cache=redis://127.0.0.1:1"]),
        load(MINIMAL + "cache: redis://127.0.0.1:1\n"),
        load(environ={"KVSPARK__CACHE": "redis://127.0.0.1:1"}),
    ):
        assert config.cache is not None
        assert config.cache.url == "redis://127.0.0.1:1"
        assert config.cache.namespace == "nightly"


def test_a_key_can_be_added_to_a_bare_url(load: Load) -> None:
    config = load(MINIMAL + "cache: redis://h\n", ["cache.ttl_s=60"])
    assert config.cache is not None
    assert (config.cache.url, config.cache.ttl_s) == ("redis://h", 60)


@pytest.mark.parametrize("off", ["cache=null", "cache=~", "cache="])
def test_the_cache_can_be_switched_off(load: Load, off: str) -> None:
    assert load(MINIMAL + "cache: redis://h\n", [off]).cache is None


def test_a_mapping_that_is_set_replaces_the_one_in_the_file(load: Load) -> None:
    assert load(MINIMAL + "inputs: {a: x}\n", ["inputs={b: y}"]).inputs == {
        "b": InputColumns.checked(column="y")
    }


BAD_FILES = {
    "unknown_section": (
        "cahce: {url: x}",
        "job.yaml line 5: unknown key cahce; did you mean cache?",
    ),
    "unknown_key": (
        "plan: {max_pending_row: 1}",
        "job.yaml line 5: unknown key plan.max_pending_row; did you mean plan.max_pending_rows?",
    ),
    "key_of_another_section": (
        "timeout_ms: 5",
        "job.yaml line 5: unknown key timeout_ms; did you mean cache.timeout_ms?",
    ),
    "removed_key": (
        "cache: {url: redis://h, doorkeeper_bytes: 65536}",
        "job.yaml line 5: cache.doorkeeper_bytes is gone: remove it; where most rows come once, set maxmemory-policy",
    ),
    "removed_codec": (
        "plan: {stages: {trunk: {cached: true, codec: shuffle-zstd}}}",
        "job.yaml line 5: plan.stages.trunk.codec: codec shuffle-zstd is gone: write zstd",
    ),
    "nothing_near": (
        "zzz: 5",
        "job.yaml line 5: unknown key zzz; the top level takes cache, input",
    ),
    "unknown_key_of_a_stage": (
        "plan: {stages: {trunk: {cache: true}}}",
        "job.yaml line 5: unknown key plan.stages.trunk.cache; did you mean plan.stages.trunk.cached?",
    ),
    "stage_that_says_nothing": (
        "plan: {stages: {trunk: {codec: raw}}}",
        "job.yaml line 5: plan.stages.trunk.cached is missing: look this stage up",
    ),
    "stage_that_is_no_mapping": (
        "plan: {stages: {trunk: true}}",
        "plan.stages.trunk: expected a mapping of keys to values, got true or false",
    ),
    "number_for_text": (
        "spark: {app_name: 1.10}",
        "app_name: expected text, got 1.1; write it in quotes",
    ),
    "choice": ("output: {}", "output is written twice"),
    "cache_that_is_a_list": ("cache: [redis://h]", "cache: expected a mapping of keys to values"),
    "password": (
        "cache: {url: redis://h, password: hunter2}",
        "job.yaml line 5: cache.password: a secret is not written in a conf",
    ),
    "password_in_the_url": (
        "cache: redis://:hunter2@h",
        "job.yaml line 5: cache: a URL with a password",
    ),
    "password_in_another_url": (
        "spark: {conf: {spark.x: 'http://u:hunter2@h'}}",
        "spark.conf.spark.x: a URL with a password",
    ),
    "secret_spark_setting": (
        "spark: {conf: {spark.hadoop.fs.s3a.secret.key: hunter2}}",
        "spark.hadoop.fs.s3a.secret.key looks like a secret",
    ),
    "foreign_spark_setting": ("spark: {conf: {executor.memory: 1g}}", "is not a Spark setting"),
    "two_outputs_one_column": (
        "outputs: {a: x, b: x}",
        "outputs: two outputs have the same column x",
    ),
}


@pytest.mark.parametrize(("line", "message"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_a_wrong_file_is_told_in_one_line(load: Load, line: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(f"{MINIMAL}{line}\n")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


BAD_SETS = {
    "no_value": ("cache", "--set takes KEY=VALUE"),
    "no_key": ("=1", "--set takes KEY=VALUE"),
    "empty_part": ("run..id=1", "--set run..id: a part of the key is empty"),
    "unknown": ("run.nam=1", "--set run.nam: unknown key run.nam; did you mean run.name?"),
    "keys_of_a_value": ("run.name.x=1", "run.name is one value and has no keys"),
    "keys_of_a_list": ("input.paths.0=x", "input.paths is one value and has no keys"),
    "type": (
        "plan.max_pending_rows=many",
        "--set plan.max_pending_rows: plan.max_pending_rows: expected a",
    ),
    "yaml": ("input.paths=[", "--set input.paths line 1: this is not YAML"),
    "bound": ("plan.max_held_bytes=0", "expected more than 0, got 0"),
    "choice": ("output.compression=zip", "expected one of 'zstd', 'snappy', 'gzip'"),
    "run_id": ("run.id=a/b", "--set run.id: run.id: a run id names a folder"),
    "empty_paths": ("input.paths=[]", "name the files in input.paths"),
    "text_for_list": ("input.paths=a", "input.paths: expected a list, got text; write [a, b]"),
    "password": ("cache.password=hunter2", "--set cache.password: cache.password: a secret is not"),
    "same_folder": ("output.path=in/", "output.path is also in input.paths"),
    "no_name": ("output.path=s3://b/in//x", "s3://b/in//x has a folder without a name (//)"),
}


@pytest.mark.parametrize(("override", "message"), BAD_SETS.values(), ids=BAD_SETS.keys())
def test_a_wrong_set_is_told_in_one_line(load: Load, override: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(sets=[override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_wrong_variable_is_named(load: Load) -> None:
    with pytest.raises(
        UsageError, match=r"variable KVSPARK__RUN__IDD: unknown key run\.idd; did you"
    ):
        load(environ={"KVSPARK__RUN__IDD": "1"})


def test_an_empty_file_lists_what_is_missing(load: Load) -> None:
    with pytest.raises(UsageError, match=r"job.yaml: run is missing: .* \(and 3 more\)"):
        load("# nothing yet\n")


def test_a_list_is_not_a_conf(load: Load) -> None:
    with pytest.raises(UsageError, match="is a mapping of keys to values"):
        load("[a]")


@pytest.mark.parametrize("kind", ["embedded", "memory"])
def test_a_url_that_yaml_reads_as_a_key_is_told_as_one(load: Load, kind: str) -> None:
    with pytest.raises(UsageError, match=rf'cache.{kind}: a URL stands in one piece.*"{kind}:'):
        load(MINIMAL + f"cache:\n  {kind}: /tmp/c\n")


def test_a_placeholder_without_a_value_is_told_with_its_line(load: Load) -> None:
    text = MINIMAL.replace("[in]", "['in/{{ ds }}']")
    with pytest.raises(UsageError, match=r"^job.yaml line 2: input.paths.0: unknown placeholder"):
        load(text)


WHOLE: dict[str, Any] = {
    "run": {"name": "nightly"},
    "input": {"paths": ["in"]},
    "model": {"path": Path("bundle")},
    "output": {"path": "out"},
}


def test_a_dict_is_a_conf_and_stays_as_it_is() -> None:
    given = deepcopy(WHOLE)
    config = job_config(
        given,
        sets=["plan.max_held_bytes=3"],
        run_date=date(2026, 1, 31),
        environ={"KVSPARK__RUN__NAME": "tonight"},
    )
    assert (config.run.name, config.run.logical_date) == ("tonight", "2026-01-31")
    assert (config.plan.max_held_bytes, config.model.path) == (3, "bundle")
    assert given == WHOLE
    assert job_config(config) is config


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({**WHOLE, "cahce": 1}, "conf: unknown key cahce; did you mean cache?"),
        ({**WHOLE, "cache": "redis://:hunter2@h"}, "conf: cache: a URL with a password"),
        (
            {**WHOLE, "cache": {"url": "redis://h", "password": "hunter2"}},
            "a secret is not written",
        ),
        ({**WHOLE, "input": {"paths": "in"}}, "conf: input.paths: expected a list, got text"),
    ],
)
def test_a_dict_that_is_wrong_is_told_in_one_line(conf: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        job_config(conf, environ={})
    assert message in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_value_that_is_complete_takes_nothing_more() -> None:
    complete = job_config(WHOLE, environ={})
    with pytest.raises(UsageError, match="a JobConfig is complete"):
        job_config(complete, sets=["run.id=1"])
    with pytest.raises(UsageError, match=r"run_date: 'soon' is no date"):
        job_config(WHOLE, run_date="soon", environ={})
