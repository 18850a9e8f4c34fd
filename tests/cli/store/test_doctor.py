"""`kvspark doctor`, as a person calls it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from kvspark.cache.cache import Cache
from kvspark.cache.namespace.namespace_stats import Use
from kvspark.cli import run
from kvspark.config.job import JobConfig
from kvspark.config.reading.load import load_job_config
from kvspark.spark.jobs.doctor import examine
from kvspark.store.files.cold import ColdStore
from kvspark.store.opening.url import cold_folder
from tests.redis_cluster import wait_until
from tests.redis_server import RedisAddress, running_redis
from tests.store.calls import set_many

pytestmark = pytest.mark.redis

CONF = Path(__file__).parents[3] / "conf/redis/redis.conf"


@pytest.fixture(scope="module")
def server() -> Iterator[RedisAddress]:
    options = ("--maxmemory", "64mb", "--requirepass", "SENTINEL-password")
    with running_redis("--include", str(CONF), *options) as running:
        yield running


@pytest.fixture
def conf(tmp_path: Path, server: RedisAddress, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PASSWORD", "SENTINEL-password")
    monkeypatch.setenv("SECRET", "SENTINEL-secret")
    assert run(["keygen", str(tmp_path / "keys")]) == 0
    cache = {
        "url": server.url,
        "password_env": "PASSWORD",
        "secret_env": "SECRET",
        "sealing": {"key_file": str(tmp_path / "keys")},
        "cold": (tmp_path / "cold").as_uri(),
    }
    sections = {
        "run": {"name": "n"},
        "input": {"paths": ["in"]},
        "model": {"path": "m"},
        "output": {"path": str(tmp_path / "out")},
        "cache": cache,
    }
    path = tmp_path / "score.yaml"
    path.write_text(yaml.safe_dump(sections))
    return path


def test_nothing_bad_is_0_and_a_warning_is_1_where_it_is_asked_for(conf, tmp_path, capsys):
    assert run(["doctor", str(conf)]) == 0
    said = capsys.readouterr().out
    for what in ("pyspark", "Java", "host files", "sealing", "namespace secret", "cold tier"):
        assert f"ok     {what}" in said
    keys = (tmp_path / "keys").read_text()
    for secret in ("SENTINEL", *(line.partition(":")[2] for line in keys.splitlines()[1:])):
        assert secret not in said
    # The default user may flush.
    assert run(["doctor", str(conf), "--strict"]) == 1


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("cache.sealing.key_file=gone", "bad    sealing: secret file gone cannot be read"),
        ("cache.sealed=false", "bad    sealing: off"),
        ("cache.cold=file:///proc/kvspark", "bad    cold tier file:///proc/kvspark: takes no file"),
        ("cache.secret_env=NOT_SET", "bad    namespace secret: environment variable NOT_SET"),
        ("cache.password_env=NOT_SET", "bad    password: environment variable NOT_SET"),
    ],
)
def test_what_is_bad_is_1_and_a_line_that_says_what_to_do(conf, capsys, value, said):
    assert run(["doctor", str(conf), "--set", value]) == 1
    assert said in capsys.readouterr().out


def test_a_conf_that_is_wrong_and_a_password_of_nobody_are_a_usage_error(conf, capsys):
    assert run(["doctor", str(conf), "--set", "cache.url=ftp://h"]) == 64
    assert run(["doctor", str(conf), "--password-env", "PASSWORD"]) == 64
    assert "--as USER" in capsys.readouterr().err


def test_a_key_file_that_others_may_read_is_a_warning(conf, tmp_path, capsys):
    (tmp_path / "keys").chmod(0o640)
    assert run(["doctor", str(conf)]) == 0
    assert f"run chmod 600 {tmp_path / 'keys'}" in capsys.readouterr().out


def test_java_that_is_missing_or_old_is_bad(conf, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert run(["doctor", str(conf)]) == 1
    assert "bad    Java: none that runs; expected 17 or later" in capsys.readouterr().out
    program = tmp_path / "bin/java"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'openjdk version \"1.8.0_292\"' >&2\n")
    program.chmod(0o700)
    assert run(["doctor", str(conf)]) == 1
    assert "bad    Java: 8;" in capsys.readouterr().out


def test_the_last_run_tells_what_a_night_needs(conf, tmp_path, capsys):
    folder = tmp_path / "out/_kvspark"
    folder.mkdir(parents=True)
    stage = {"lookups": 100_000, "hits": 60_000, "computed": 40_000}
    stage |= {"bytes_read": 60_000 * 1_620, "bytes_written": 40_000 * 1_620}
    (folder / "run.json").write_text(json.dumps({"stages": {"trunk": stage}}))
    run(["doctor", str(conf)])
    said = capsys.readouterr().out
    # 1,620 bytes take 1,792 of jemalloc's, and 144 for the key.
    assert "184.6 MiB (the rows of the last run) of 64.0 MiB; expected at most 90%" in said


def test_what_runs_have_written_is_told_by_stage(conf, server, tmp_path, capsys):
    config = load_job_config(conf).cache
    assert config is not None
    cache = Cache.from_config(config)
    cache.registry().add({b"t" * 32: Use("trunk", 40_000, 2**26)})
    cache.close()
    run(["doctor", str(conf)])
    said = capsys.readouterr().out
    assert "ok     namespace n stage trunk: about 40,000 entries, 64.0 MiB, last used 20" in said


def test_a_server_that_is_set_up_badly_still_says_what_runs_have_written(conf, capsys):
    with running_redis() as unlimited:
        other = ["--set", f"cache.url={unlimited.url}", "--set", "cache.password_env=null"]
        run(["doctor", str(conf), *other])
        said = capsys.readouterr().out
    assert "maxmemory: 0, no limit" in said
    assert "namespace n: no run has written anything" in said


def test_a_store_that_does_not_answer_is_not_asked_what_runs_have_written(conf, capsys):
    run(["doctor", str(conf), "--set", "cache.url=redis://127.0.0.1:1"])
    assert "namespace n" not in capsys.readouterr().out


def test_a_cold_tier_of_many_segments_wants_to_be_compacted(conf, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("kvspark.spark.jobs.doctor.MANY_SEGMENTS", 0)
    store = ColdStore(cold_folder((tmp_path / "cold").as_uri()))
    set_many(store, [(b"k1", b"v")], ttl_s=60)
    store.close()
    run(["doctor", str(conf)])
    assert "1 segment; expected at most 0; run kvspark compact" in capsys.readouterr().out


def test_a_conf_without_a_cache_has_only_its_machine_looked_at():
    sections = {
        "run": {"name": "n"},
        "input": {"paths": ["in"]},
        "model": {"path": "m"},
        "output": {"path": "out"},
        "spark": {"master": "sc://host"},
    }
    found = list(examine(JobConfig.checked(**sections)))
    assert [each.what for each in found] == ["pyspark", "Java", "host files", "cache"]


def test_a_warm_fills_what_memory_is_left_and_says_how_much(conf, server, capsys):
    config = load_job_config(conf).cache
    assert config is not None
    cache = Cache.from_config(config)
    cache.registry().add({b"t" * 32: Use("trunk", 1, 100)})
    cache.close()
    wait_until(lambda: len(cold_folder(config.cold or "").names()) > 0)
    assert run(["warm", str(conf)]) == 0
    assert "lifted 0 entries (0 B of memory); " in capsys.readouterr().out
    assert run(["warm", str(conf), "--set", "cache.cold=null"]) == 64
    assert run(["warm", str(conf), "--set", "cache.url=redis://127.0.0.1:1"]) == 69
    with running_redis() as unlimited:
        other = ["--set", f"cache.url={unlimited.url}", "--set", "cache.password_env=null"]
        assert run(["warm", str(conf), *other]) == 64
        assert "--bytes" in capsys.readouterr().err
        assert run(["warm", str(conf), *other, "--bytes", "1000000"]) == 0
        assert "lifted 1 entry" in capsys.readouterr().out
        unlimited.ask("FLUSHALL")
        assert run(["warm", str(conf), *other, "--set", "cache.budget_bytes=1"]) == 0
        assert "no room for more" in capsys.readouterr().out
