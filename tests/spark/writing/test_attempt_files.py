"""Files of tasks: those that count are taken whole, and nothing that another attempt does reaches the output."""

from __future__ import annotations

from pathlib import Path

import pyarrow.dataset as ds
import pytest

from kvspark.errors import OutputError, ValidationError
from kvspark.spark.runs.run_report import REPORT_FOLDER
from kvspark.table.publish.files.attempt_files import AttemptFiles
from tests.killed_process import killed_at
from tests.spark.publishing import report_of, rows_of, target_at
from tests.spark.writing.written_apart import (
    ROWS,
    TASKS,
    batches,
    name_of,
    run,
    run_at,
    task_of,
    write_all,
)

ALL = ROWS * TASKS


def beside(out: Path) -> set[str]:
    """What a run leaves beside its output, but for its lock and the line of each that was killed."""
    folder = out.parent / f".kvspark-{out.name}"
    names = {item.name for item in folder.iterdir()} if folder.exists() else set()
    return names - {"unpublished.jsonl"}


@pytest.mark.parametrize(
    "fault", ["task_batch", "task_file", "told", "moving", "moved", "sweeping", "swept"]
)
def test_a_run_killed_at_any_step_leaves_the_old_output_and_is_rerun(
    tmp_path: Path, fault: str
) -> None:
    out = tmp_path / "out"
    run(target_at(out), "first")
    killed_at(fault, run_at, out, "second")
    assert rows_of(out) == {"first": ALL}
    left = {Path(name).suffix for name in beside(out) if name.startswith("second-")}
    assert left == {"", *({".tasks"} if fault not in {"sweeping", "swept"} else ())} | (
        {".swept"} if fault == "sweeping" else set()
    )
    target = target_at(out)
    with target.lock("next"):
        assert target.recover() == 1  # one run, however many folders it left
    assert beside(out) == set()
    run(target, "third")
    assert rows_of(out) == {"third": ALL}
    assert beside(out) == {"kept"}


def test_only_what_counts_is_taken(tmp_path: Path) -> None:
    attempts = AttemptFiles(tmp_path / "run-12345678")
    attempts.open()
    told = write_all(attempts, "fine")
    assert len(list(attempts.folder.iterdir())) == 2 * len(told)
    attempts.take(told)
    attempts.sweep()
    assert [item.name for item in tmp_path.iterdir()] == ["run-12345678"]
    found = ds.dataset(tmp_path / "run-12345678", format="parquet", partitioning="hive").to_table()
    assert found.select(["content", "kind"]).num_rows == ALL
    assert set(found["content"].to_pylist()) == {"fine"}
    assert {file.folder for file in told} == {"kind=0", "kind=1"}
    assert (tmp_path / "run-12345678" / "_SUCCESS").exists()


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_task_that_goes_on_when_it_should_be_dead_reaches_nothing(
    tmp_path: Path, moment: str
) -> None:
    out = tmp_path / "out"
    target = target_at(out)
    with target.lock("run"):
        staged = target.stage("run")
        attempts = AttemptFiles(staged)
        attempts.open()
        told = write_all(attempts, "fine")
        zombie = task_of(attempts).steps(name_of(attempts, 0, 9), batches("zombie"))
        next(zombie)
        attempts.take(told)
        if moment == "before":  # it writes on until the folder is gone
            next(zombie)
        attempts.sweep()
        report_of(target.path, "run").write(staged / REPORT_FOLDER)
        target.publish(staged)
        with pytest.raises(OutputError, match="no such file or directory"):
            list(zombie)
    assert rows_of(out) == {"fine": ALL}
    assert beside(out) == set()
    assert {item.name for item in tmp_path.iterdir()} == {"out"}


def test_a_file_that_is_not_as_its_task_left_it_is_refused(tmp_path: Path) -> None:
    attempts = AttemptFiles(tmp_path / "run-12345678")
    attempts.open()
    told = write_all(attempts, "fine")
    first, last = attempts.folder / told[0].name, attempts.folder / told[-1].name
    last.write_bytes(last.read_bytes()[:-1])
    with pytest.raises(ValidationError, match=rf"{last.name} has .* bytes, and its task wrote"):
        attempts.take(told[-1:])
    first.unlink()
    with pytest.raises(ValidationError, match=f"{first.name} is not there"):
        attempts.take(told)
    assert not (tmp_path / "run-12345678" / "_SUCCESS").exists()


def test_a_worker_that_does_not_see_the_folder_says_so(tmp_path: Path) -> None:
    attempts = AttemptFiles(tmp_path / "run-12345678")
    writing = task_of(attempts).steps(name_of(attempts, 0, 1), batches("a"))
    with pytest.raises(OutputError, match=r"rows cannot be written to .*\.tasks \(no such file"):
        list(writing)
    assert list(tmp_path.iterdir()) == []


def test_what_fails_where_rows_are_made_is_not_blamed_on_the_output(tmp_path: Path) -> None:
    attempts = AttemptFiles(tmp_path / "run-12345678")
    attempts.open()

    def broken() -> object:
        yield next(batches("a"))
        raise ConnectionResetError("the store")

    with pytest.raises(ConnectionResetError, match="the store"):
        list(task_of(attempts).steps(name_of(attempts, 0, 1), broken()))  # type: ignore[arg-type]
    assert list(attempts.folder.iterdir()) == []
