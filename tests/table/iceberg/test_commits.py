"""What holds of the commits of Iceberg tables."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import CommitTableResponse

from kvspark.errors import OutputError, RunLockedError, UsageError
from kvspark.table.iceberg.opening import iceberg_publisher
from kvspark.table.iceberg.target import IcebergTarget
from kvspark.table.publish.publisher import Content
from kvspark.table.sink import Sink
from tests.table.iceberg.places import (
    FOREIGN,
    PLAIN,
    TOKEN,
    HookedCatalog,
    Place,
    files_of,
    named,
    plain,
    publish,
)
from tests.table.publish.targets import (
    content_of,
    rows,
    run,
    table_of,
    write_all,
)


def test_an_attempt_that_slept_while_another_began_publishes_nothing(place: Place) -> None:
    publisher = place.publisher()
    run(publisher, "one")
    slow = publisher.prepare("slow")
    files = write_all(slow, "slow")
    run(place.publisher(), "two")
    with pytest.raises(RunLockedError, match="another run has begun since"):
        publisher.commit(slow, content_of(publisher, "slow", files))
    publisher.abort(slow)
    assert rows("iceberg", place.url) == table_of("two")


def test_an_attempt_whose_files_are_swept_has_already_lost(place: Place) -> None:
    """Even where it passed its own check before: the catalog refuses what it commits."""
    publisher = place.publisher()
    run(publisher, "one")
    slow = publisher.prepare("slow")
    content = content_of(publisher, "slow", write_all(slow, "slow"))

    def late(send: Callable[[], CommitTableResponse]) -> CommitTableResponse:
        place.publisher().prepare("two")
        return send()

    HookedCatalog.commits.append(late)
    with pytest.raises(RunLockedError):
        publisher.commit(slow, content)
    assert rows("iceberg", place.url) == table_of("one")
    assert len(place.table.metadata.snapshots) == 2  # the version, and the fence


@pytest.mark.parametrize("lands", [False, True])
def test_a_commit_whose_answer_is_lost(place: Place, *, lands: bool) -> None:
    publisher = place.publisher(keep=5)
    run(publisher, "one")
    attempt = publisher.prepare("two")
    content = content_of(publisher, "two", write_all(attempt, "two"))

    def lost(send: Callable[[], CommitTableResponse]) -> CommitTableResponse:
        if lands:
            send()
        raise ConnectionError("no answer")

    HookedCatalog.commits.append(lost)
    if lands:
        publisher.commit(attempt, content)
    else:
        with pytest.raises(OutputError, match="no answer"):
            publisher.commit(attempt, content)
    publisher.commit(attempt, content)
    place.publisher().commit(attempt, content)
    assert rows("iceberg", place.url) == table_of("two")
    assert [each.run_id for each in publisher.versions()] == ["one"]


def test_a_commit_that_arrives_after_the_run_gave_up_does_nothing(place: Place) -> None:
    """Whose files may be gone by then."""
    publisher = place.publisher()
    run(publisher, "one")
    attempt = publisher.prepare("two")
    content = content_of(publisher, "two", write_all(attempt, "two"))
    on_the_way: list[Callable[[], CommitTableResponse]] = []

    def lost(send: Callable[[], CommitTableResponse]) -> CommitTableResponse:
        on_the_way.append(send)
        raise ConnectionError("no answer")

    HookedCatalog.commits.append(lost)
    with pytest.raises(OutputError, match="no answer"):
        publisher.commit(attempt, content)
    publisher.abort(attempt)
    with pytest.raises(CommitFailedException):
        on_the_way[0]()
    assert rows("iceberg", place.url) == table_of("one")


def test_another_writer_in_between_is_seen(place: Place) -> None:
    """A commit on an old table fails; it is planned again, and the other's rows are not mixed with the run's."""
    publisher = place.publisher()
    publish(publisher, "one", plain("a"))
    attempt = publisher.prepare("two")
    files = files_of(attempt, plain("b"))

    def after_another(send: Callable[[], CommitTableResponse]) -> CommitTableResponse:
        place.table.append(plain("theirs"))
        return send()

    HookedCatalog.commits.append(after_another)
    publisher.commit(attempt, Content(files, PLAIN))
    assert named(place) == ["b"]
    (theirs,) = publisher.versions()
    publisher.rollback(theirs)
    assert named(place) == ["a", "theirs"]


def test_each_run_is_one_snapshot_and_says_which(place: Place) -> None:
    publisher = place.publisher(keep=3)
    for name in ("one", "two"):
        publish(publisher, name, plain(name))
    said = [each.summary for each in place.table.metadata.snapshots]
    assert [each and each.get("kvspark.run") for each in said] == ["one", "two"]
    assert [each and each.operation.value for each in said] == ["overwrite"] * 2
    assert set(place.table.metadata.refs) == {"main", "kvspark_previous_1"}


def test_a_kept_version_can_be_read_by_its_tag(place: Place) -> None:
    for name in ("one", "two"):
        publish(place.publisher(), name, plain(name))
    before = place.table.scan().use_ref("kvspark_previous_1").to_arrow()
    assert before["name"].to_pylist() == ["one"]


def test_nothing_stays_of_what_no_version_has(place: Place, tmp_path: Path) -> None:
    publisher = place.publisher(keep=0)
    for name in ("one", "two", "three"):
        publish(publisher, name, plain(name))
    location = tmp_path / "warehouse" / "nights" / "scored"
    assert len([*location.rglob("*.parquet")]) == 1
    assert len([*location.rglob("snap-*.avro")]) == 1
    # The new files, and which were deleted.
    assert len([*location.rglob("*-m*.avro")]) == 2


def test_files_that_another_writers_snapshot_has_are_not_removed(place: Place) -> None:
    publisher = place.publisher(keep=0)
    publish(publisher, "one", plain("ours"))
    theirs = place.table
    theirs.append(plain("theirs"))
    theirs.manage_snapshots().create_tag(theirs.metadata.current_snapshot_id or 0, "end").commit()
    publish(publisher, "two", plain("two"))
    publish(publisher, "three", plain("three"))
    assert named(place) == ["three"]
    tagged = place.table.scan().use_ref("end").to_arrow()
    assert sorted(tagged["name"].to_pylist()) == ["ours", "theirs"]


def test_a_users_tag_keeps_a_version(place: Place) -> None:
    publisher = place.publisher(keep=0)
    publish(publisher, "one", plain("one"))
    theirs = place.table
    theirs.manage_snapshots().create_tag(theirs.metadata.current_snapshot_id or 0, "end").commit()
    publish(publisher, "two", plain("two"))
    assert place.table.scan().use_ref("end").to_arrow()["name"].to_pylist() == ["one"]


def test_rows_that_nobody_published_are_not_replaced(place: Place) -> None:
    theirs = pa.table([[0], ["theirs"]], schema=PLAIN.set(1, PLAIN.field(1).with_nullable(False)))
    place.create(FOREIGN).append(theirs)
    with pytest.raises(OutputError, match="has rows that no run wrote"):
        place.publisher().check()
    publish(place.publisher(overwrite=True), "one", plain("ours"))
    assert named(place) == ["ours"]
    (before,) = place.publisher().versions()
    place.publisher().rollback(before)
    assert named(place) == ["theirs"]


def test_a_catalog_that_does_not_answer_is_one_line_without_its_secret(place: Place) -> None:
    publisher = place.publisher()
    publish(publisher, "one", plain("a"))
    attempt = publisher.prepare("two")

    def refuse(_: Callable[[], CommitTableResponse]) -> CommitTableResponse:
        raise OSError(f"401 for {TOKEN}\nand more")

    HookedCatalog.commits.append(refuse)
    with pytest.raises(OutputError, match="nothing was published") as found:
        publisher.commit(attempt, Content(files_of(attempt, plain("b")), PLAIN))
    assert TOKEN not in str(found.value)
    assert "401 for ..." in str(found.value)
    assert "\n" not in str(found.value)


def test_notes_come_back_with_their_version(place: Place) -> None:
    publisher = place.publisher()
    run(publisher, "one")
    run(publisher, "two")
    for version in (publisher.current(), *publisher.versions()):
        assert version is not None
        note = publisher.note(version, "_kvspark/run.json")
        assert note is not None
        assert version.run_id.encode() in note
    assert publisher.note(publisher.versions()[0], "_kvspark/none") is None


@pytest.mark.parametrize(
    ("url", "properties", "why"),
    [
        ("iceberg:nights.scored", {}, "names no Iceberg table"),
        ("iceberg:tests/scored", {}, "names no Iceberg table"),
        ("delta:tests/a.b", {}, "names no Iceberg table"),
        ("iceberg:tests/a.b", {"s3.secret-access-key": "k"}, "'s3.secret-access-key' .* a secret"),
        ("iceberg:tests/a.b", {"uri": "postgresql://me:word@host/db"}, "'uri' .* a secret"),
    ],
)
def test_names_that_are_refused(url: str, properties: dict[str, str], why: str) -> None:
    with pytest.raises(UsageError, match=why) as found:
        IcebergTarget(url, properties)
    assert "word" not in str(found.value)


def test_a_run_without_rows_leaves_a_table_without_rows(place: Place) -> None:
    publish(place.publisher(), "one", plain("a"))
    publisher = place.publisher()
    attempt = publisher.prepare("two")
    file = Sink(attempt.place, "part", attempt.file_schema(PLAIN, ())).write_empty()
    publisher.commit(attempt, Content((file,), PLAIN))
    assert place.read() == []
    assert place.table.schema().column_names == PLAIN.names
    assert [each.run_id for each in publisher.versions()] == ["one"]


def test_a_client_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = "kvspark.table.iceberg."
    for name in [*sys.modules]:
        if name.startswith(ours) and not name.endswith((".opening", ".target")):
            monkeypatch.delitem(sys.modules, name)
        if name.partition(".")[0] == "pyiceberg":
            monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=r"pip install 'kvspark\[iceberg\]'"):
        iceberg_publisher(IcebergTarget("iceberg:tests/a.b"))
