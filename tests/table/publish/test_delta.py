"""What a Delta table promises beyond what every target does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from kvspark.errors import OutputError, RunLockedError
from kvspark.table.delta import versions
from kvspark.table.delta.log import DeltaLog
from tests.object_server import S3Address
from tests.table.publish.deltas import (
    actions,
    begun,
    files_in_log,
    ids,
    last_version,
    publish,
    publisher_to,
)

ONE = pa.table({"id": [1, 2, 3, 4]})
TWO = pa.table({"id": [5, 6]})
DAYS = pa.table({"id": [1, 2, 3], "day": ["a/1", "ü 100%", None]})
BY = ("day",)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "a table, ü +1"


# ---------------------------------------------------------------- fencing


def test_a_slow_attempt_cannot_commit_once_its_files_are_swept(folder: Path) -> None:
    publish(publisher_to(folder), "one", ONE)
    slow = publisher_to(folder)
    attempt, content = begun(slow, "slow", TWO)
    newer, newest = begun(publisher_to(folder), "newer", TWO)
    with pytest.raises(RunLockedError, match="another run has begun since"):
        slow.commit(attempt, content)
    assert ids(folder) == [1, 2, 3, 4]
    publisher_to(folder).commit(newer, newest)
    assert ids(folder) == [5, 6]


def test_an_attempt_that_gave_up_can_commit_no_more(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(publisher_to(folder), "one", ONE)
    target = publisher_to(folder)
    attempt, content = begun(target, "two", TWO)
    before = last_version(folder)

    def never_answered(log: DeltaLog, *args: object) -> None:
        raise OSError("connection reset")

    with monkeypatch.context() as silent:
        silent.setattr(versions, "_WAITS_S", (0.0,))
        silent.setattr(DeltaLog, "replace", never_answered)
        with pytest.raises(OutputError, match="connection reset; nothing was published"):
            target.commit(attempt, content)
    assert last_version(folder) == before
    target.abort(attempt)
    # The one version that its commit may make, should that arrive late, is taken.
    assert last_version(folder) == before + 1
    with pytest.raises(RunLockedError, match="another run has begun since"):
        target.commit(attempt, content)
    assert ids(folder) == [1, 2, 3, 4]


def test_of_two_attempts_that_find_no_table_one_makes_it(folder: Path) -> None:
    first, second = publisher_to(folder), publisher_to(folder)
    slow, its_content = begun(first, "slow", ONE)
    attempt, content = begun(second, "second", TWO)
    second.commit(attempt, content)
    with pytest.raises(RunLockedError, match="another run has begun since"):
        first.commit(slow, its_content)
    assert ids(folder) == [5, 6]
    assert not list(folder.glob(f"*/{slow.name}"))


def test_an_older_attempt_that_makes_the_table_first_loses_nothing(folder: Path) -> None:
    older, newer = publisher_to(folder), publisher_to(folder)
    attempt, content = begun(older, "older", ONE)
    late, its_content = begun(newer, "newer", TWO)
    older.commit(attempt, content)
    with pytest.raises(RunLockedError, match="another run has begun since"):
        newer.commit(late, its_content)
    assert ids(folder) == [1, 2, 3, 4]


@pytest.mark.parametrize("is_first", [True, False])
def test_a_commit_whose_answer_is_lost_is_made_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, is_first: bool
) -> None:
    if not is_first:
        publish(publisher_to(folder), "zero", TWO)
    method = "create" if is_first else "replace"
    commit = getattr(DeltaLog, method)

    def losing(log: DeltaLog, *args: object) -> None:
        commit(log, *args)
        raise OSError("connection reset")

    monkeypatch.setattr(DeltaLog, method, losing)
    publisher = publisher_to(folder, keep=5)
    attempt, content = begun(publisher, "one", ONE)
    before = last_version(folder) if not is_first else -1
    publisher.commit(attempt, content)
    monkeypatch.undo()
    again = publisher_to(folder, keep=5)
    again.commit(attempt, content)
    assert last_version(folder) == before + 1
    assert [each.run_id for each in again.versions()] == ([] if is_first else ["zero"])
    assert ids(folder) == [1, 2, 3, 4]


def test_a_commit_that_is_repeated_after_a_rollback_does_nothing(folder: Path) -> None:
    publisher = publisher_to(folder)
    publish(publisher, "one", ONE)
    attempt, content = begun(publisher, "two", TWO)
    publisher.commit(attempt, content)
    publisher.rollback(publisher.versions()[0])
    publisher_to(folder).commit(attempt, content)
    assert ids(folder) == [1, 2, 3, 4]


def test_what_others_add_meanwhile_is_replaced_and_comes_back(folder: Path) -> None:
    publisher = publisher_to(folder)
    publish(publisher, "one", ONE)
    attempt, content = begun(publisher, "two", TWO)
    write_deltalake(str(folder), pa.table({"id": [99]}), mode="append")
    publisher.commit(attempt, content)
    assert ids(folder) == [5, 6]
    publisher.rollback(publisher.versions()[0])
    assert ids(folder) == [1, 2, 3, 4, 99]


def test_what_is_published_is_found_behind_the_commits_of_others(folder: Path) -> None:
    publisher = publisher_to(folder)
    publish(publisher, "one", ONE)
    for number in range(12):
        write_deltalake(str(folder), pa.table({"id": [number]}), mode="append")
    current = publisher.current()
    assert current is not None
    assert current.run_id == "one"
    with pytest.raises(OutputError, match=r"another job \(run\.name small\)"):
        publisher_to(folder, owner="large").check()


def _just_before(monkeypatch: pytest.MonkeyPatch, method: str, work: Callable[[], object]) -> None:
    """Does `work` once, between what a publisher has read and the commit that follows from it."""
    commit = getattr(DeltaLog, method)

    def late(log: DeltaLog, *args: object) -> None:
        monkeypatch.setattr(DeltaLog, method, commit)
        work()
        commit(log, *args)

    monkeypatch.setattr(DeltaLog, method, late)


def test_a_commit_that_others_overtake_replaces_what_they_added(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher = publisher_to(folder)
    publish(publisher, "one", ONE)
    more = pa.table({"id": [99]})
    _just_before(monkeypatch, "replace", lambda: write_deltalake(str(folder), more, mode="append"))
    publish(publisher, "two", TWO)
    assert ids(folder) == [5, 6]
    publisher.rollback(publisher.versions()[0])
    assert ids(folder) == [1, 2, 3, 4, 99]


@pytest.mark.parametrize("is_first", [True, False])
def test_an_attempt_that_begins_at_the_last_moment_is_the_one_that_may_commit(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, is_first: bool
) -> None:
    older, newer = publisher_to(folder), publisher_to(folder)
    if not is_first:
        publish(older, "zero", TWO)
    attempt, content = begun(older, "older", ONE)
    _just_before(
        monkeypatch, "create" if is_first else "replace", lambda: publish(newer, "newer", TWO)
    )
    with pytest.raises(RunLockedError, match="another run has begun since"):
        older.commit(attempt, content)
    assert ids(folder) == [5, 6]


def test_a_rollback_stops_an_attempt_that_is_under_way(folder: Path) -> None:
    publisher = publisher_to(folder)
    publish(publisher, "one", ONE)
    publish(publisher, "two", TWO)
    attempt, content = begun(publisher, "three", TWO)
    publisher_to(folder).rollback(publisher.versions()[0])
    with pytest.raises(RunLockedError):
        publisher.commit(attempt, content)
    assert ids(folder) == [1, 2, 3, 4]


def test_two_runs_into_a_table_that_was_made_empty_do_not_double_their_rows(folder: Path) -> None:
    DeltaTable.create(str(folder), pa.schema([("id", pa.int64())]))
    older, newer = publisher_to(folder), publisher_to(folder)
    older.check()
    attempt, content = begun(older, "older", ONE)
    late, its_content = begun(newer, "newer", TWO)
    newer.commit(late, its_content)
    with pytest.raises(RunLockedError):
        older.commit(attempt, content)
    assert ids(folder) == [5, 6]


def test_in_an_object_store_attempts_are_told_apart_as_well(
    s3: S3Address, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url = f"{s3.url}/{tmp_path.name}"
    options = {"allow_http": "true"}
    more = pa.table({"id": [99]})

    def append() -> None:
        write_deltalake(url, more, mode="append", storage_options=options)

    def found() -> list[int]:
        table = DeltaTable(url, storage_options=options).to_pyarrow_table()
        return sorted(table["id"].to_pylist())

    first, second = publisher_to(url), publisher_to(url)
    slow, its_content = begun(first, "slow", TWO)
    _just_before(monkeypatch, "create", lambda: publish(second, "one", ONE))
    with pytest.raises(RunLockedError, match="another run has begun since"):
        first.commit(slow, its_content)
    assert found() == [1, 2, 3, 4]
    _just_before(monkeypatch, "replace", append)
    publish(first, "two", TWO)
    assert found() == [5, 6]
    first.rollback(first.versions()[0])
    assert found() == [1, 2, 3, 4, 99]


# ---------------------------------------------------------------- what is in the log


def test_the_log_says_which_run_and_takes_out_each_old_file_once(folder: Path) -> None:
    publisher = publisher_to(folder)
    publish(publisher, "one", ONE)
    old = set(files_in_log(folder))
    publish(publisher, "two", TWO)
    said = actions(folder, last_version(folder))
    assert {each["path"] for each in said["remove"]} == old
    assert [each["path"].split("/")[0] for each in said["add"]] == ["runs"]
    transactions = {each["appId"]: each["version"] for each in said["txn"]}
    assert transactions == {"kvspark": 2, "kvspark:small": 2}
    (information,) = said["commitInfo"]
    assert information["kvspark"]["current"]["run_id"] == "two"
    assert information["userMetadata"] == "kvspark: two"


def test_a_long_log_is_read_from_a_checkpoint(folder: Path) -> None:
    publisher = publisher_to(folder)
    for number in range(6):
        publish(publisher, str(number), pa.table({"id": [number]}))
    log = folder / "_delta_log"
    assert [each.name[:20] for each in log.glob("*.checkpoint*.parquet")] == [f"{9:020d}"]
    for version in range(7):
        (log / f"{version:020d}.json").unlink()
    publish(publisher, "last", ONE)
    publisher.rollback(publisher.versions()[0])
    assert DeltaTable(str(folder)).to_pyarrow_table()["id"].to_pylist() == [5]


def test_partitions_that_the_run_does_not_touch_keep_their_files(folder: Path) -> None:
    publisher = publisher_to(folder, replaces="partitions")
    publish(publisher, "one", DAYS, BY)
    before = files_in_log(folder)
    more = pa.table({"id": [7, 8], "day": ["a/1", None]})
    publish(publisher, "two", more, BY)
    said = actions(folder, last_version(folder))
    assert sorted(each["partitionValues"]["day"] or "" for each in said["remove"]) == ["", "a/1"]
    after = files_in_log(folder)
    (kept,) = set(before) & set(after)
    assert before[kept]["partitionValues"] == {"day": "ü 100%"}
    assert ids(folder) == [2, 7, 8]
    assert said["commitInfo"][0]["isBlindAppend"] is False
    publish(publisher, "three", more, BY)  # what is old goes, but for files of partitions that stay
    assert ids(folder) == [2, 7, 8]
    publisher.rollback(publisher.versions()[0])
    assert ids(folder) == [2, 7, 8]


def test_a_partition_by_two_columns_is_replaced_alone(folder: Path) -> None:
    by = ("day", "hour")
    table = pa.table({"id": [1, 2, 3, 4], "day": ["a", "a", "b", "b"], "hour": [1, 2, 1, 2]})
    publisher = publisher_to(folder, replaces="partitions")
    publish(publisher, "one", table, by)
    some = pa.table({"id": [10, 40], "day": ["a", "b"], "hour": [1, 2]})
    publish(publisher, "two", some, by)
    assert ids(folder) == [2, 3, 10, 40]


def test_files_of_others_whose_names_the_client_would_change_are_not_replaced_one_by_one(
    folder: Path,
) -> None:
    publisher = publisher_to(folder, replaces="partitions")
    publish(publisher, "one", DAYS, BY)
    write_deltalake(str(folder), pa.table({"id": [9], "day": ["a/1"]}), mode="append")
    attempt, content = begun(publisher, "two", DAYS, BY)
    with pytest.raises(OutputError, match="names with signs in them"):
        publisher.commit(attempt, content)
    assert ids(folder) == [1, 2, 3, 9]


def test_a_run_without_rows_leaves_a_table_without_rows(folder: Path) -> None:
    publish(publisher_to(folder), "none", DAYS.slice(0, 0), BY)
    assert ids_or_none(folder) == []
    assert not files_in_log(folder)
    assert not list(folder.rglob("*.parquet"))
    publish(publisher_to(folder), "some", DAYS, BY)
    publish(publisher_to(folder), "none", DAYS.slice(0, 0), BY)
    assert ids_or_none(folder) == []


def ids_or_none(folder: Path) -> list[int]:
    table = DeltaTable(str(folder)).to_pyarrow_table()
    assert table.column_names == ["id", "day"]
    found: list[int] = table["id"].to_pylist()
    return found
