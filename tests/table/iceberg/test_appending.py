"""Runs that add to an Iceberg table, beside other programs that write to it."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pytest
from pyiceberg.schema import Schema
from pyiceberg.table import CommitTableResponse
from pyiceberg.types import LongType, NestedField, StringType

from kvspark.errors import OutputError, RunLockedError
from kvspark.table.iceberg.iceberg_publisher import IcebergPublisher
from kvspark.table.publish.publisher import Content
from tests.table.iceberg.places import (
    PLAIN,
    HookedCatalog,
    Place,
    files_of,
    named,
    plain,
    publish,
)

PLAIN_COLUMNS = Schema(
    NestedField(1, "id", LongType(), required=False),
    NestedField(2, "name", StringType(), required=False),
)
Send = Callable[[], CommitTableResponse]


def adding(place: Place, *, keep: int = 1) -> IcebergPublisher:
    return place.publisher(keep=keep, replaces="run")


def add(place: Place, run_id: str, name: str) -> None:
    publisher = adding(place)
    publisher.check(run_id)
    publish(publisher, run_id, plain(name))


def add_theirs(place: Place) -> None:
    place.table.append(plain("theirs"))


def rewrite(place: Place) -> None:
    """As who puts the rows of many files into one does it."""
    table = place.table
    table.overwrite(table.scan().to_arrow())


def test_a_run_is_one_snapshot_that_takes_out_what_it_had_added_and_no_other_file(
    place: Place,
) -> None:
    add(place, "one", "a")
    add(place, "two", "b")
    before = paths(place)
    snapshot = place.table.current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    assert snapshot.summary.operation.value == "append"
    add(place, "two", "c")
    kept = before & paths(place)
    assert len(kept) == 1
    assert "/one-" in kept.pop()
    assert named(place) == ["a", "c"]


def paths(place: Place) -> set[str]:
    return set(place.table.inspect.files()["file_path"].to_pylist())


def test_rows_that_others_have_added_stay(place: Place) -> None:
    add(place, "one", "a")
    add_theirs(place)
    add(place, "two", "b")
    add(place, "one", "c")
    assert named(place) == ["b", "c", "theirs"]


@pytest.mark.parametrize("meddle", [add_theirs, rewrite])
def test_a_table_that_others_change_meanwhile_is_not_added_to_until_the_run_is_repeated(
    place: Place, meddle: Callable[[Place], None]
) -> None:
    add(place, "one", "a")
    publisher = adding(place)
    attempt = publisher.prepare("two")
    content = Content(files_of(attempt, plain("b")), PLAIN)
    meddle(place)
    before = named(place)
    with pytest.raises(
        RunLockedError, match=r"another program has written.*published nothing"
    ) as told:
        publisher.commit(attempt, content)
    assert told.value.exit_code == 75
    publisher.abort(attempt)
    assert named(place) == before
    add(place, "two", "b")
    assert named(place) == sorted([*before, "b"])


def test_who_is_first_by_one_moment_is_seen_too(place: Place) -> None:
    add(place, "one", "a")
    publisher = adding(place)
    attempt = publisher.prepare("two")
    content = Content(files_of(attempt, plain("b")), PLAIN)

    def after_another(send: Send) -> CommitTableResponse:
        add_theirs(place)
        return send()

    HookedCatalog.commits.append(after_another)
    with pytest.raises(RunLockedError, match="another program has written"):
        publisher.commit(attempt, content)
    assert named(place) == ["a", "theirs"]


def test_a_commit_whose_answer_is_lost_has_added_its_rows_once(place: Place) -> None:
    add(place, "one", "a")
    publisher = adding(place)
    attempt = publisher.prepare("two")
    content = Content(files_of(attempt, plain("b")), PLAIN)

    def lost(send: Send) -> CommitTableResponse:
        send()
        raise ConnectionError("no answer")

    HookedCatalog.commits.append(lost)
    publisher.commit(attempt, content)
    adding(place).commit(attempt, content)
    assert named(place) == ["a", "b"]
    add(place, "two", "c")
    assert named(place) == ["a", "c"]


def test_rows_that_others_have_put_into_files_of_their_own_are_not_replaced(place: Place) -> None:
    for run_id, name in (("one", "a"), ("two", "b")):
        add(place, run_id, name)
    rewrite(place)
    with pytest.raises(
        OutputError, match=r"rewritten or removed files that run two has added \(0 of 1"
    ):
        adding(place).check("two")
    publisher = adding(place)
    attempt = publisher.prepare("two")
    with pytest.raises(OutputError, match="so its rows cannot be replaced alone"):
        publisher.commit(attempt, Content(files_of(attempt, plain("c")), PLAIN))
    add(place, "three", "c")  # which has added nothing yet
    assert named(place) == ["a", "b", "c"]
    with pytest.raises(OutputError, match="rewritten"):
        adding(place).check("one")
    add(place, "three", "d")
    assert named(place) == ["a", "b", "d"]
    publish(place.publisher(), "one", plain("a"))
    add(place, "two", "b")
    assert named(place) == ["a", "b"]


def test_a_version_with_rows_of_others_comes_back_and_is_added_to(place: Place) -> None:
    add(place, "one", "a")
    add_theirs(place)
    add(place, "two", "b")
    publisher = adding(place)
    publisher.rollback(publisher.versions()[0])
    assert named(place) == ["a", "theirs"]
    add(place, "one", "c")
    assert named(place) == ["c", "theirs"]
    add(place, "two", "d")
    assert named(place) == ["c", "d", "theirs"]


def test_a_table_of_which_others_have_removed_the_last_run_is_not_added_to(place: Place) -> None:
    add(place, "one", "a")
    before = place.table.metadata.current_snapshot_id or 0
    add_theirs(place)
    place.table.maintenance.expire_snapshots().by_id(before).commit()
    with pytest.raises(OutputError, match=r"not known which run .*mode: replace"):
        adding(place).check("two")


def test_a_new_column_is_added_with_the_rows(place: Place) -> None:
    add(place, "one", "a")
    more = plain("b").append_column("more", pa.array([5]))
    publish(adding(place), "two", more)
    found = [(row["name"], row["more"]) for row in place.read()]
    assert sorted(found) == [("a", None), ("b", 5)]
    with pytest.raises(OutputError, match="has a column 'more' that the run has not"):
        add(place, "three", "c")


def test_an_empty_table_of_others_is_added_to_and_one_with_rows_is_not(place: Place) -> None:
    place.create(PLAIN_COLUMNS).append(plain())
    add(place, "one", "a")
    add(place, "one", "b")
    assert named(place) == ["b"]
    place.catalog.drop_table(place.target.identifier)
    place.create(PLAIN_COLUMNS).append(plain("theirs"))
    with pytest.raises(OutputError, match="has rows that no run wrote"):
        adding(place).check("one")
    overwriting = place.publisher(overwrite=True, replaces="run")
    with pytest.raises(OutputError, match=r"not known which run .*mode: replace"):
        overwriting.check("one")
