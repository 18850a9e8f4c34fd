"""A disk without room: the old output stays, one line says so, and what needs no room goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from kvspark import cli
from kvspark.errors import OutputError
from kvspark.spark.output.appended import add_to
from kvspark.spark.runs.run_report import REPORT_FOLDER
from kvspark.spark.session.failure import explained
from tests.small_disk import fill, small_disk
from tests.spark.publishing import (
    append,
    content_of,
    publish,
    report_of,
    rows_of,
    target_at,
    write_rows,
)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk") as mounted:
        yield mounted


@pytest.fixture
def conf(tmp_path: Path, disk: Path) -> Path:
    value = {
        "run": {"name": "small"},
        "input": {"paths": [str(tmp_path / "gone")]},
        "model": {"path": str(tmp_path / "gone too")},
        "output": {"path": str(disk / "out")},
    }
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(value))
    return tmp_path / "job.yaml"


def test_a_rollback_needs_no_room(disk: Path, conf: Path) -> None:
    for night in ("first", "second"):
        publish(target_at(disk / "out"), night)
    fill(disk)
    assert cli.run(["rollback", str(conf)]) == 0
    assert content_of(disk / "out") == "first"
    assert cli.run(["rollback", str(conf)]) == 0
    assert content_of(disk / "out") == "second"


def test_an_output_that_does_not_fit_at_the_last_moment_is_not_published(
    disk: Path, conf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = target_at(disk / "out")
    publish(target, "first")
    with target.lock("second"):
        staged = target.stage("second")
        write_rows(staged / "part-0.parquet", "second")
        report_of(target.path, "second").write(staged / REPORT_FOLDER)
        filler = fill(disk)
        with pytest.raises(OutputError, match=r"\(No space left on device\); the old output is un"):
            target.publish(staged)
        assert not target.is_published
        target.discard(staged)
    assert content_of(disk / "out") == "first"
    assert cli.run(["rollback", str(conf), "--list"]) == 0
    assert "first: 10 rows" in capsys.readouterr().out
    filler.unlink()
    publish(target, "second")
    assert content_of(disk / "out") == "second"


def test_rows_that_do_not_fit_are_not_added(disk: Path) -> None:
    target = target_at(disk / "out")
    append(target, "first")
    before = rows_of(disk / "out")
    with target.lock("second"):
        staged = target.stage("second")
        write_rows(staged / "part-1.parquet", "second")
        report_of(target.path, "second").write(staged / REPORT_FOLDER)
        filler = fill(disk)
        with pytest.raises(OSError, match="No space left") as caught:
            add_to(target.path, staged, "second")
        error = explained(caught.value)
        assert isinstance(error, OutputError)
        assert "nothing was published, make room" in str(error)
        target.discard(staged)
    assert rows_of(disk / "out") == before
    filler.unlink()
    append(target, "second")
    assert rows_of(disk / "out") == {**before, "second": 20}
