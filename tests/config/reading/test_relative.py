"""Relative paths of a conf file begin in its folder, those of a command line where it is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvspark.config.job import JobConfig
from kvspark.config.reading.load import load_job_config
from kvspark.errors import UsageError

CONF = """\
run: {name: nightly}
input: {paths: [../data/a, /abs/b]}
model: {path: ../models/m}
cache: {url: "embedded:../cache", sealing: {key_file: keys}, password_file: /run/secrets/p}
output: {path: ../out}
"""


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "home/conf").mkdir(parents=True)
    path = tmp_path / "home/conf/score.yaml"
    path.write_text(CONF, encoding="utf-8")
    monkeypatch.chdir(tmp_path / "elsewhere")
    return path


def load(conf: Path, *sets: str, **environ: str) -> JobConfig:
    return load_job_config(conf, sets=sets, environ=environ)


def test_a_relative_path_begins_in_the_confs_folder(conf: Path) -> None:
    home = conf.parents[1]
    config = load(conf)
    assert config.input.paths == (str(home / "data/a"), "/abs/b")
    assert config.model.path == str(home / "models/m")
    assert config.output.path == str(home / "out")
    assert config.cache is not None
    assert config.cache.url == f"embedded:{home / 'cache'}"
    assert config.cache.sealing.key_file == str(home / "conf/keys")
    assert config.cache.password_file == "/run/secrets/p"


def test_it_does_not_matter_how_the_conf_is_named(
    conf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(conf.parent)
    assert load(Path("score.yaml")) == load(conf)


def test_a_path_of_the_command_line_begins_where_it_is_given(conf: Path) -> None:
    config = load(conf, "input.paths=[x]", "cache.url=embedded:c", KVSPARK__OUTPUT__PATH="y")
    assert config.input.paths == ("x",)
    assert config.output.path == "y"
    assert config.cache is not None
    assert config.cache.url == "embedded:c"


@pytest.mark.parametrize("uri", ["models:/glosses/3", "file:///m", "~/m"])
def test_a_uri_is_left_as_it_is(conf: Path, uri: str) -> None:
    conf.write_text(CONF.replace("../models/m", uri), encoding="utf-8")
    assert load(conf).model.path == uri


@pytest.mark.parametrize("key", ["input.paths", "model.path", "output.path"])
def test_a_path_that_is_only_in_the_working_directory_says_so(conf: Path, key: str) -> None:
    name = {"input.paths": "data/*", "model.path": "m", "output.path": "out"}[key]
    there = {"input.paths": "data/a", "model.path": "m", "output.path": "out/_kvspark/run.json"}[
        key
    ]
    written = {
        "input.paths": "[../data/a, /abs/b]",
        "model.path": "../models/m",
        "output.path": "../out",
    }
    conf.write_text(
        CONF.replace(written[key], f"[{name}]" if "*" in name else name), encoding="utf-8"
    )
    Path(there).mkdir(parents=True)
    with pytest.raises(
        UsageError, match=r"relative to the conf.s folder: write \.\./\.\./elsewhere/"
    ) as caught:
        load(conf)
    assert key in str(caught.value)


def test_a_folder_of_the_same_name_that_is_no_output_does_not_matter(conf: Path) -> None:
    conf.write_text(CONF.replace("../out", "out"), encoding="utf-8")
    Path("out").mkdir()
    assert load(conf).output.path == str(conf.parent / "out")
