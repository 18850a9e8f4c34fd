"""Into which Delta tables a run may write, with which columns, and what lies beside the rows."""

from __future__ import annotations

import datetime as dt
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError

from kvspark.errors import OutputError, UsageError
from kvspark.table.delta import delta_publisher
from kvspark.table.delta.delta_publisher import DeltaPublisher
from tests.object_server import S3Address
from tests.table.publish.deltas import begun, ids, last_version, publish, publisher_to

ONE = pa.table({"id": [1, 2, 3, 4]})
TWO = pa.table({"id": [5, 6]})
DAYS = pa.table({"id": [1, 2, 3], "day": ["a/1", "ü 100%", None]})
BY = ("day",)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "a table, ü +1"


# ---------------------------------------------------------------- whose table it is


def test_a_table_of_somebody_else_is_kept_where_it_may_be_replaced(folder: Path) -> None:
    write_deltalake(str(folder), pa.table({"id": [99]}))
    with pytest.raises(OutputError, match="a Delta table that no run wrote"):
        publisher_to(folder).check()
    publish(publisher_to(folder, overwrite=True), "one", ONE)
    publish(publisher_to(folder, keep=2), "two", TWO)
    *_, foreign = publisher_to(folder).versions()
    assert foreign.run_id == "version 1"
    assert foreign.rows == 1
    publisher_to(folder).rollback(foreign)
    assert ids(folder) == [99]


def test_a_folder_with_other_files_is_not_made_a_table(folder: Path) -> None:
    folder.mkdir()
    (folder / "notes.txt").touch()
    with pytest.raises(OutputError, match=r"is no Delta table \(notes\.txt\)"):
        publisher_to(folder).check()


def test_a_table_of_another_job_is_known_when_its_log_is_short(folder: Path) -> None:
    """Commits leave the log in time; what jobs wrote stays in its checkpoints."""
    publish(publisher_to(folder), "one", ONE)
    write_deltalake(str(folder), pa.table({"id": [99]}), mode="append")
    DeltaTable(str(folder)).create_checkpoint()
    (folder / "_delta_log" / f"{0:020d}.json").unlink()
    publisher_to(folder).check()
    with pytest.raises(OutputError, match="no run wrote"):
        publisher_to(folder, owner="large").check()


@pytest.mark.parametrize("sign", "#?%|^\\[]")
def test_a_path_that_the_client_would_read_otherwise_is_refused(tmp_path: Path, sign: str) -> None:
    with pytest.raises(OutputError, match="in it, which the client"):
        publisher_to(tmp_path / f"a{sign}25").check()


@pytest.mark.parametrize(
    ("properties", "asked"),
    [
        ({"delta.appendOnly": "true"}, "appendOnly"),
        ({"delta.constraints.positive": "id > 0"}, "delta.constraints.positive"),
    ],
)
def test_a_table_that_asks_more_of_writers_is_refused(
    folder: Path, properties: dict[str, str], asked: str
) -> None:
    DeltaTable.create(
        str(folder),
        pa.schema([("id", pa.int64())]),
        configuration=properties,
        raise_if_key_not_exists=False,
    )
    with pytest.raises(OutputError, match=asked):
        publisher_to(folder, overwrite=True).check()


# ---------------------------------------------------------------- columns


def test_a_column_that_is_new_tonight_is_added(folder: Path) -> None:
    publish(publisher_to(folder), "one", ONE)
    wider = TWO.append_column("score", pa.array([0.5, 1.5]))
    publish(publisher_to(folder), "two", wider)
    assert DeltaTable(str(folder)).to_pyarrow_table().column_names == ["id", "score"]
    publisher_to(folder).rollback(publisher_to(folder).versions()[0])
    assert DeltaTable(str(folder)).to_pyarrow_table().column_names == ["id"]


def test_a_new_column_is_null_in_partitions_that_stay(folder: Path) -> None:
    publisher = publisher_to(folder, replaces="partitions")
    publish(publisher, "one", DAYS, BY)
    wider = pa.table({"id": [7], "score": [0.5], "day": ["a/1"]})
    publish(publisher, "two", wider, BY)
    found = DeltaTable(str(folder)).to_pyarrow_table().sort_by("id")
    assert found["score"].to_pylist() == [None, None, 0.5]


@pytest.mark.parametrize(
    ("table", "why"),
    [
        (pa.table({"other": [1]}), "a column 'id' that the run has not"),
        (pa.table({"id": ["1"]}), "column 'id' is of type long and the run's of string"),
        (pa.table({"id": pa.array([1], pa.int32())}), "is of type long and the run's of integer"),
        (pa.table({"id": [1], "ID": [2]}), "but for upper and lower case"),
        (pa.table({"id": [1], "a b": [2]}), "has a sign in its name"),
        (pa.table({"id": [1], "t": pa.array([1], pa.time64("us"))}), "tables of Delta Lake do not"),
    ],
)
def test_columns_that_do_not_fit_change_nothing(folder: Path, table: pa.Table, why: str) -> None:
    publisher = publisher_to(folder)
    publish(publisher, "one", ONE)
    attempt, content = begun(publisher, "two", table)
    before = last_version(folder)
    with pytest.raises(OutputError, match=why):
        publisher.commit(attempt, content)
    publisher.abort(attempt)
    assert last_version(folder) == before
    assert ids(folder) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "days", [pa.array([20260101]), pa.array([dt.date(2026, 1, 1)])], ids=["number", "date"]
)
def test_a_partition_column_keeps_its_type(folder: Path, days: pa.Array) -> None:
    publisher = publisher_to(folder, replaces="partitions")
    publish(publisher, "one", DAYS, BY)
    attempt, content = begun(publisher, "two", pa.table({"id": [7], "day": days}), BY)
    with pytest.raises(OutputError, match="column 'day' is of type string and the run's of"):
        publisher.commit(attempt, content)
    publisher.abort(attempt)
    assert ids(folder) == [1, 2, 3]


def test_nulls_do_not_get_into_a_column_that_takes_none(folder: Path) -> None:
    DeltaTable.create(str(folder), pa.schema([pa.field("id", pa.int64(), nullable=False)]))
    publish(publisher_to(folder), "one", ONE)
    attempt, content = begun(publisher_to(folder), "two", pa.table({"id": [1, None]}))
    with pytest.raises(OutputError, match="takes no nulls"):
        publisher_to(folder).commit(attempt, content)
    assert ids(folder) == [1, 2, 3, 4]


# ---------------------------------------------------------------- what lies beside


def _with_notes(publisher: DeltaPublisher) -> None:
    attempt, content = begun(publisher, "one", ONE)
    bad = attempt.place.path("bad.parquet", "_kvspark/quarantine")
    stream = attempt.place.create(bad)
    stream.write(b"bad rows")
    stream.close()
    stream = attempt.place.create(attempt.place.path("lost.parquet", "_kvspark/quarantine"))
    stream.close()
    notes = {"_kvspark/run.json": b"{}"}
    publisher.commit(attempt, type(content)(content.files, ONE.schema, (), notes, (bad,)))


@pytest.mark.parametrize("kind", ["posix", "s3"])
def test_notes_and_the_quarantine_stay_with_their_version(
    kind: str, folder: Path, request: pytest.FixtureRequest
) -> None:
    server: S3Address | None = request.getfixturevalue("s3") if kind == "s3" else None
    publisher = publisher_to(
        folder if server is None else f"{server.url}/notes-{folder.parent.name}"
    )
    _with_notes(publisher)
    version = publisher.current()
    assert version is not None
    assert publisher.note(version, "_kvspark/run.json") == b"{}"
    assert publisher.note(version, "_kvspark/quarantine/bad.parquet") == b"bad rows"
    assert publisher.note(version, "_kvspark/quarantine/lost.parquet") is None
    publish(publisher, "two", TWO)
    assert publisher.note(version, "_kvspark/quarantine/bad.parquet") == b"bad rows"
    publish(publisher, "three", TWO)
    assert publisher.note(version, "_kvspark/quarantine/bad.parquet") is None


def test_a_refused_credential_is_told_in_one_line_without_it(
    s3: S3Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
    with pytest.raises(OutputError) as told:
        publisher_to(f"{s3.url}/refused").check()
    assert "\n" not in str(told.value)
    assert "wrong-secret" not in str(told.value)
    assert "403 Forbidden, SignatureDoesNotMatch" in str(told.value)
    assert "nothing was written" in str(told.value)


def test_without_the_client_the_run_is_told_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "deltalake.exceptions", None)
    with pytest.raises(UsageError, match=r"pip install 'kvspark\[delta\]'"):
        publisher_to(folder).check()


def test_a_commit_that_the_client_refuses_says_why(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    DeltaTable.create(str(folder), ONE.schema, configuration={"delta.appendOnly": "true"})
    monkeypatch.setattr(delta_publisher, "check_table", lambda there: None)
    write_deltalake(str(folder), ONE, mode="append")
    with pytest.raises(OutputError, match=r"append.only.*nothing was published"):
        publish(publisher_to(folder, overwrite=True), "one", TWO)
    assert ids(folder) == [1, 2, 3, 4]


def test_others_may_clean_the_table_and_what_is_current_stays(folder: Path) -> None:
    publisher = publisher_to(folder)
    publish(publisher, "one", ONE)
    publish(publisher, "two", TWO)
    DeltaTable(str(folder)).vacuum(0, dry_run=False, enforce_retention_duration=False, full=True)
    assert ids(folder) == [5, 6]
    with pytest.raises(OutputError, match="missing file"):
        publisher.rollback(publisher.versions()[0])
    with pytest.raises((DeltaError, OSError)):
        DeltaTable(str(folder), version=0).to_pyarrow_table()
    assert ids(folder) == [5, 6]
    publish(publisher, "three", ONE)
    assert ids(folder) == [1, 2, 3, 4]
