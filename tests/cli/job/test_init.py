"""`kvspark init` makes a project, and never touches what is there."""

from __future__ import annotations

import ast
import shlex
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from kvspark import cli
from kvspark.config.reading.load import load_job_config
from kvspark.demo.project.project import ROWS

FILES = {
    "README.md",
    "conf/score.yaml",
    "crontab",
    "dag.py",
    "data/glosses.parquet",
    "model.py",
    "score.py",
}


def files(folder: Path) -> dict[str, bytes]:
    """What each file in `folder` holds."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("name", ["nightly", "50 % of it's #1: $HOME"])
def test_a_project_is_right_whatever_its_folder_is_called(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / name
    assert cli.run(["init", str(home)]) == 0
    assert files(home).keys() == FILES
    said = capsys.readouterr().out.splitlines()
    assert set(said[:-1]) == {str(home / file) for file in FILES}
    config = load_job_config(home / "conf/score.yaml")
    assert config.run.name == name
    assert Path(config.input.paths[0]) == home / "data"
    for file in ("model.py", "score.py", "dag.py"):
        ast.parse((home / file).read_text())
    table = pq.read_table(home / "data")
    assert table.num_rows == ROWS
    assert {each.column for each in config.inputs.values()} <= set(table.column_names)
    (line,) = (x for x in (home / "crontab").read_text().splitlines() if not x.startswith("#"))
    command = line.split(None, 5)[5].replace("\\%", "%")
    assert shlex.split(command)[:2] == ["cd", str(home)]


@pytest.mark.parametrize("file", sorted(FILES))
def test_no_file_is_overwritten_and_none_is_written_beside_it(
    tmp_path: Path, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text("mine")
    assert cli.run(["init", str(tmp_path)]) == 64
    said = capsys.readouterr().err
    assert f"{tmp_path / file} is there already" in said
    assert said.count("\n") == 1
    assert files(tmp_path) == {file: b"mine"}


def test_the_conf_of_a_project_that_was_moved_reads_and_writes_its_new_place(
    tmp_path: Path,
) -> None:
    assert cli.run(["init", str(tmp_path / "old")]) == 0
    new = (tmp_path / "old").rename(tmp_path / "new")
    config = load_job_config(new / "conf/score.yaml")
    assert config.input.paths == (str(new / "data"),)
    assert config.model.path == str(new / "model")
    assert config.output.path == str(new / "scored")
    assert config.cache is not None
    assert config.cache.url == f"embedded:{new / 'cache'}"


def test_what_else_is_in_the_folder_stays(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/mine.csv").write_text("1")
    assert cli.run(["init", str(tmp_path)]) == 0
    assert files(tmp_path).keys() == {*FILES, "data/mine.csv"}


def test_a_folder_that_cannot_be_written_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("x")
    assert cli.run(["init", str(tmp_path / "file/project")]) == 73
    assert capsys.readouterr().err.count("\n") == 1
