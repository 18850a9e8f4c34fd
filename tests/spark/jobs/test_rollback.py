"""`kvspark rollback`: back to an output that was replaced, in one step, and forward again."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import yaml

from kvspark import cli
from kvspark.errors import OutputError
from kvspark.spark.output.target import Target
from tests.spark.publishing import OWNER, content_of, publish, target_at, write_rows


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """The conf of a job whose model and input are gone: a rollback needs neither."""
    value = {
        "run": {"name": "small"},
        "input": {"paths": [str(tmp_path / "gone")]},
        "model": {"path": str(tmp_path / "gone too")},
        "output": {"path": str(tmp_path / "out"), "keep": 2},
    }
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(value))
    return tmp_path / "job.yaml"


def publish_nights(tmp_path: Path, *nights: str) -> None:
    for night in nights:
        publish(target_at(tmp_path / "out", keep=2), night)


def test_a_rollback_goes_back_and_a_second_one_forward_again(
    tmp_path: Path, conf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish_nights(tmp_path, "first", "second", "third")
    assert cli.run(["rollback", str(conf)]) == 0
    assert content_of(tmp_path / "out") == "second"
    told = capsys.readouterr().out
    assert told == f"{tmp_path}/out is the output of second again, and that of third is kept\n"
    assert cli.run(["rollback", str(conf)]) == 0
    assert content_of(tmp_path / "out") == "third"


def test_a_rollback_names_the_run_to_go_back_to(tmp_path: Path, conf: Path) -> None:
    publish_nights(tmp_path, "first", "second", "third")
    assert cli.run(["rollback", str(conf), "--to", "first"]) == 0
    assert content_of(tmp_path / "out") == "first"
    labels = [version.label for version in target_at(tmp_path / "out").versions()]
    assert labels == ["third", "second"]


def test_two_outputs_of_one_run_id_are_told_apart_by_their_folders(
    tmp_path: Path, conf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish_nights(tmp_path, "same", "same", "other")
    names = [version.path.name for version in target_at(tmp_path / "out").versions()]
    assert cli.run(["rollback", str(conf), "--to", "same"]) == 64
    assert f"names 2 kept outputs of {tmp_path}/out" in capsys.readouterr().err
    assert content_of(tmp_path / "out") == "other"
    assert cli.run(["rollback", str(conf), "--list"]) == 0
    listed = capsys.readouterr().out
    assert all(f"(--to {name})" in listed for name in names)
    assert cli.run(["rollback", str(conf), "--to", names[1]]) == 0
    assert content_of(tmp_path / "out") == "same"


def test_the_next_run_replaces_what_was_rolled_back_to(tmp_path: Path, conf: Path) -> None:
    publish_nights(tmp_path, "first", "second")
    assert cli.run(["rollback", str(conf)]) == 0
    publish_nights(tmp_path, "third")
    assert content_of(tmp_path / "out") == "third"
    labels = [version.label for version in target_at(tmp_path / "out").versions()]
    assert labels == ["first", "second"]


def test_the_list_says_what_there_is(
    tmp_path: Path, conf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows(tmp_path / "out" / "a.parquet", "foreign")
    publish(target_at(tmp_path / "out", overwrite=True), "first")
    publish_nights(tmp_path, "second")
    assert cli.run(["rollback", str(conf), "--list"]) == 0
    now, newest, oldest = capsys.readouterr().out.splitlines()
    assert now.startswith("now ")
    assert "second: 10 rows, started 2026-01-01 00:00:00Z" in now
    assert "first: 10 rows" in newest
    assert "_replaced-out-" in oldest
    assert oldest.endswith("no output of this job")
    times = re.findall(r"\d{4}-\d\d-\d\d\S*(?: [\d:]+Z)?", f"{now}\n{newest}\n{oldest}")
    assert len(times) == 4
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", time) for time in times)


def test_a_foreign_table_that_was_overwritten_comes_back(tmp_path: Path, conf: Path) -> None:
    for name in ("a.parquet", "b.parquet", "c.parquet"):
        write_rows(tmp_path / "out" / name, "foreign")
    publish(target_at(tmp_path / "out", overwrite=True), "first")
    assert cli.run(["rollback", str(conf)]) == 0
    assert content_of(tmp_path / "out") == "foreign"
    assert not list(tmp_path.glob("_replaced-*"))
    # What is there now is nobody's to replace again, a rollback's neither.
    assert cli.run(["rollback", str(conf)]) == 73
    assert cli.run(["rollback", str(conf), "--set", "output.overwrite=true"]) == 0
    assert content_of(tmp_path / "out") == "first"
    assert len(list(tmp_path.glob("_replaced-*"))) == 1


def test_a_rollback_while_a_run_is_under_way_is_told_by_whom_and_changes_nothing(
    tmp_path: Path, conf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish_nights(tmp_path, "first", "second")
    target = target_at(tmp_path / "out")
    with target.lock("tonight"):
        staged = target.stage("tonight")
        write_rows(staged / "part-0.parquet", "third")
        assert cli.run(["rollback", str(conf)]) == 75
        assert "run tonight holds it since" in capsys.readouterr().err
        assert cli.run(["rollback", str(conf), "--list"]) == 0
        assert staged.is_dir()
    assert content_of(tmp_path / "out") == "second"
    assert cli.run(["rollback", str(conf)]) == 0
    assert content_of(tmp_path / "out") == "first"


def test_an_output_that_somebody_deleted_comes_back(tmp_path: Path, conf: Path) -> None:
    publish_nights(tmp_path, "first", "second")
    (tmp_path / "out").rename(tmp_path / "elsewhere")
    assert cli.run(["rollback", str(conf)]) == 0
    assert content_of(tmp_path / "out") == "first"


def test_a_version_that_is_not_whole_is_refused(
    tmp_path: Path, conf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish_nights(tmp_path, "first", "second")
    (version,) = target_at(tmp_path / "out").versions()
    (version.path / "part-1.parquet").unlink()
    assert cli.run(["rollback", str(conf)]) == 73
    assert "not whole any more (part-1.parquet is gone" in capsys.readouterr().err
    assert content_of(tmp_path / "out") == "second"


def test_nothing_to_go_back_to_is_said(
    tmp_path: Path, conf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["rollback", str(conf)]) == 73
    assert "has no output to go back to" in capsys.readouterr().err
    publish_nights(tmp_path, "first", "second")
    assert cli.run(["rollback", str(conf), "--to", "zeroth"]) == 64
    said = capsys.readouterr().err
    assert "no output of run zeroth is kept" in said
    assert "output.keep says how many" in said
    assert content_of(tmp_path / "out") == "second"


def test_a_rollback_waits_for_no_run_that_is_under_way(tmp_path: Path, conf: Path) -> None:
    publish_nights(tmp_path, "first", "second")
    with target_at(tmp_path / "out").lock("third"):
        assert cli.run(["rollback", str(conf)]) == 75
    assert content_of(tmp_path / "out") == "second"


@pytest.mark.parametrize("keep", [0, 1, 3])
def test_as_many_outputs_are_kept_as_the_conf_says(tmp_path: Path, keep: int) -> None:
    target = target_at(tmp_path / "out", keep=keep)
    nights = [f"night-{number}" for number in range(5)]
    for night in nights:
        publish(target, night)
    kept = [content_of(version.path) for version in target.versions()]
    assert kept == nights[-2::-1][:keep]
    assert (tmp_path / ".kvspark-out").exists() == (keep > 0)


def test_old_outputs_are_deleted_after_the_new_one_is_published(tmp_path: Path) -> None:
    target = target_at(tmp_path / "out")
    publish(target, "first")
    publish(target, "second")
    with pytest.raises(OutputError, match="the old output is untouched"):
        publish(Target(str(target.path), owner=OWNER, exchange=_refuse), "third")
    with target.lock("next"):
        target.recover()
    assert content_of(tmp_path / "out") == "second"
    assert [content_of(version.path) for version in target.versions()] == ["first"]


def _refuse(left: Path, right: Path) -> bool:
    raise OSError(5, "no")


def test_a_rollback_starts_no_spark() -> None:
    import subprocess

    program = (
        "import kvspark.spark.jobs.rollback, sys; "
        "print([n for n in ('pyspark', 'torch', 'pyarrow') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
