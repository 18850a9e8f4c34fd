"""The copy of a conf: loadable as the conf is, from any folder, and never in the place of something."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvspark.config.reading.load import load_job_config
from kvspark.config.writing.tuned_conf import check_free, tuned_path, write_tuned
from kvspark.errors import OutputError, UsageError

CHANGES = {("spark", "conf", "spark.task.cpus"): 2, ("cache", "overlap_bytes"): 1 << 20}
TEXT = """# our job
run: {name: churn}
input:
  paths: [../their-data, /abs] # two
model: {path: ../their-model}
output: {path: ../out}
cache: "embedded:../store"
"""


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    path = tmp_path / "conf" / "score.yaml"
    path.parent.mkdir()
    path.write_text(TEXT)
    return path


@pytest.mark.parametrize("place", ["conf/score.tuned.yaml", "deep/er/other.yaml"])
def test_a_copy_is_the_conf_with_the_changes_from_any_folder(
    conf: Path, tmp_path: Path, place: str
):
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tuned(conf, path, CHANGES, ["why", "and how"])
    sets = ["spark.conf.spark.task.cpus=2", "cache.overlap_bytes=1048576"]
    assert load_job_config(path, environ={}) == load_job_config(conf, sets=sets, environ={})
    lines = path.read_text().splitlines()
    assert lines[:3] == ["# why", "# and how", "# our job"]
    assert conf.read_text() == TEXT
    assert [each.name for each in path.parent.iterdir() if each.name.startswith(".")] == []


def test_a_conf_with_dates_to_fill_in_is_copied_without_a_date(conf: Path):
    conf.write_text(TEXT.replace("../their-data", "'../data/{{ run.date }}'"))
    path = tuned_path(conf)
    write_tuned(conf, path, CHANGES, [])
    assert "../data/{{ run.date }}" in path.read_text()


def test_a_conf_that_cannot_be_changed_in_place_is_said_with_what_to_set(conf: Path):
    conf.write_text(f"{TEXT}spark: &s {{conf: &c {{}}}}\nplan: {{stages: *c}}\n")
    with pytest.raises(UsageError, match=r"nothing was written, set by hand spark\.conf"):
        write_tuned(conf, tuned_path(conf), CHANGES, [])
    assert [each.name for each in conf.parent.iterdir()] == ["score.yaml"]


def test_the_copy_stands_beside_the_conf():
    assert tuned_path(Path("a/score.yaml")) == Path("a/score.tuned.yaml")
    assert tuned_path(Path("score")) == Path("score.tuned.yaml")


def test_no_file_is_replaced_unless_asked_for_and_never_the_conf_itself(conf: Path):
    there = tuned_path(conf)
    check_free(there, conf, is_forced=False)
    there.write_text("mine")
    with pytest.raises(OutputError, match="is there already; add --force"):
        check_free(there, conf, is_forced=False)
    check_free(there, conf, is_forced=True)
    with pytest.raises(UsageError, match="is the conf itself"):
        check_free(conf, conf, is_forced=True)
    with pytest.raises(UsageError, match="is a folder"):
        check_free(conf.parent, conf, is_forced=True)
    with pytest.raises(OutputError, match="its folder is not there"):
        check_free(conf.parent / "no" / "x.yaml", conf, is_forced=False)
