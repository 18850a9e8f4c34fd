"""Runs that add to a Delta table, beside other programs that write to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from kvspark.errors import OutputError, RunLockedError
from kvspark.table.delta.delta_publisher import DeltaPublisher
from kvspark.table.delta.log import DeltaLog
from tests.table.publish.deltas import actions, begun, files_in_log, ids, last_version, publisher_to
from tests.table.publish.deltas import publish as published

ONE, TWO, MORE = (pa.table({"id": [number]}) for number in (1, 2, 3))
THEIRS = pa.table({"id": [77]})


def adding(folder: Path, *, keep: int = 1, overwrite: bool = False) -> DeltaPublisher:
    return publisher_to(folder, replaces="run", keep=keep, overwrite=overwrite)


def publish(folder: Path, run_id: str, table: pa.Table) -> None:
    publisher = adding(folder)
    publisher.check(run_id)
    published(publisher, run_id, table)


def compact(folder: Path) -> None:
    """As `OPTIMIZE` does it."""
    assert DeltaTable(folder).optimize.compact()["numFilesRemoved"] >= 2


def add_theirs(folder: Path) -> None:
    write_deltalake(folder, THEIRS, mode="append")


def test_a_run_adds_one_commit_that_takes_out_what_it_had_added_and_no_other_file(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "table"
    publish(folder, "one", ONE)
    (kept,) = files_in_log(folder)
    publish(folder, "two", TWO)
    (old,) = files_in_log(folder).keys() - {kept}
    assert "remove" not in actions(folder, last_version(folder))
    publish(folder, "two", MORE)
    said = actions(folder, last_version(folder))
    assert [each["path"] for each in said["remove"]] == [old]
    assert len(said["add"]) == 1
    assert kept in files_in_log(folder)
    assert ids(folder) == [1, 3]


def test_rows_that_others_have_added_stay(tmp_path: Path) -> None:
    folder = tmp_path / "table"
    publish(folder, "one", ONE)
    add_theirs(folder)
    publish(folder, "two", TWO)
    publish(folder, "one", MORE)
    assert ids(folder) == [2, 3, 77]


@pytest.mark.parametrize("meddle", [add_theirs, compact])
def test_a_table_that_others_change_meanwhile_is_not_added_to_until_the_run_is_repeated(
    tmp_path: Path, meddle: Callable[[Path], None]
) -> None:
    folder = tmp_path / "table"
    publish(folder, "one", ONE)
    publish(folder, "two", TWO)
    publisher = adding(folder)
    attempt, content = begun(publisher, "three", MORE)
    meddle(folder)
    before = ids(folder)
    with pytest.raises(
        RunLockedError, match=r"another program has written.*published nothing"
    ) as told:
        publisher.commit(attempt, content)
    assert told.value.exit_code == 75
    publisher.abort(attempt)
    assert ids(folder) == before
    publish(folder, "three", MORE)
    assert ids(folder) == sorted([*before, 3])


def test_who_is_first_by_one_moment_is_seen_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "table"
    publish(folder, "one", ONE)
    publisher = adding(folder)
    attempt, content = begun(publisher, "two", TWO)
    real = DeltaLog.exchange

    def late(*arguments: Any) -> None:
        add_theirs(folder)
        real(*arguments)

    monkeypatch.setattr(DeltaLog, "exchange", late)
    with pytest.raises(RunLockedError, match="another program has written"):
        publisher.commit(attempt, content)
    assert ids(folder) == [1, 77]


def test_rows_that_others_have_put_into_files_of_their_own_are_not_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "table"
    publish(folder, "one", ONE)
    publish(folder, "two", TWO)
    compact(folder)
    with pytest.raises(
        OutputError, match=r"rewritten or removed files that run two has added \(0 of 1"
    ):
        adding(folder).check("two")
    attempt, content = begun(adding(folder), "two", MORE)
    with pytest.raises(OutputError, match="so its rows cannot be replaced alone"):
        adding(folder).commit(attempt, content)
    publish(folder, "three", MORE)  # which has added nothing yet
    assert ids(folder) == [1, 2, 3]
    with pytest.raises(OutputError, match="rewritten"):
        adding(folder).check("one")
    publish(folder, "three", THEIRS)
    assert ids(folder) == [1, 2, 77]
    published(publisher_to(folder), "one", ONE)
    publish(folder, "two", TWO)
    assert ids(folder) == [1, 2]


def test_a_rollback_to_rewritten_rows_leaves_them_rewritten(tmp_path: Path) -> None:
    folder = tmp_path / "table"
    for run_id, table in (("one", ONE), ("two", TWO)):
        publish(folder, run_id, table)
    compact(folder)
    publish(folder, "three", MORE)
    publisher = adding(folder)
    publisher.rollback(publisher.versions()[0])
    with pytest.raises(OutputError, match="rewritten"):
        publisher.check("two")
    publish(folder, "three", MORE)
    assert ids(folder) == [1, 2, 3]


def test_a_new_column_is_added_and_one_less_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "table"
    publish(folder, "one", ONE)
    publish(folder, "two", TWO.append_column("more", pa.array(["a"])))
    found = DeltaTable(folder).to_pyarrow_table()
    assert sorted(found.to_pylist(), key=lambda row: int(row["id"])) == [
        {"id": 1, "more": None},
        {"id": 2, "more": "a"},
    ]
    with pytest.raises(OutputError, match="has a column 'more' that the run has not"):
        publish(folder, "three", MORE)


def test_rows_of_others_and_of_runs_that_nobody_knows_are_not_added_to(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    write_deltalake(theirs, THEIRS)
    with pytest.raises(OutputError, match="that no run wrote"):
        adding(theirs).check("one")
    with pytest.raises(OutputError, match=r"not known which run .*mode: replace"):
        adding(theirs, overwrite=True).check("one")
    ours = tmp_path / "ours"
    publish(ours, "one", ONE)
    (note,) = ours.glob("_kvspark/runs/*/runs.json")
    note.unlink()
    with pytest.raises(OutputError, match=r"not known which run .*mode: replace"):
        adding(ours).check("two")
    published(publisher_to(ours), "one", ONE)
    publish(ours, "two", TWO)
    assert ids(ours) == [1, 2]


def test_an_empty_table_of_others_is_added_to(tmp_path: Path) -> None:
    folder = tmp_path / "table"
    write_deltalake(folder, ONE.slice(0, 0))
    publish(folder, "one", ONE)
    publish(folder, "one", TWO)
    assert ids(folder) == [2]
