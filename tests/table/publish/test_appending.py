"""What every target promises to runs that add their rows: once each, whatever is repeated or dies."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from kvspark.errors import OutputError
from kvspark.table.publish.added_runs import AddedRuns, attempt_name, is_of_run
from kvspark.table.publish.publisher import Content, Published, Publisher, Replaces
from kvspark.table.sink import Sink
from tests.killed_process import killed_at
from tests.table.publish import targets
from tests.table.publish.readers import left_over, while_reading
from tests.table.publish.targets import (
    BY,
    CLOUDS,
    KINDS,
    POSIX_KINDS,
    SCHEMA,
    content_of,
    new_url,
    publisher_at,
    rows,
    run,
    table_of,
    write_all,
)

DELTA_POINTS = "fenced sweeping swept told closed synced published discarding".split()
BAD = "_kvspark/quarantine/bad.parquet"
ICEBERG_POINTS = "fencing fenced swept told closed synced planned published discarding".split()
FAULT_POINTS = {
    "s3": DELTA_POINTS,
    "gcs": ["discarding"],
    "azure": ["discarding"],
    "hdfs": DELTA_POINTS,
    "delta": DELTA_POINTS,
    "delta-s3": DELTA_POINTS,
    "iceberg": ICEBERG_POINTS,
    "iceberg-s3": ICEBERG_POINTS,
    "iceberg-rest": ["planned"],
}


class Target:
    """One target of a kind, new for a test."""

    def __init__(self, kind: str, request: pytest.FixtureRequest, folder: Path) -> None:
        server = kind if kind in CLOUDS or kind == "hdfs" else "s3"
        base = "" if kind in POSIX_KINDS else request.getfixturevalue(server).url
        if kind == "iceberg-rest":
            request.getfixturevalue("lake")
        self.kind, self.url = kind, new_url(kind, base, folder)

    def publisher(self, replaces: Replaces = "run", *, keep: int = 1) -> Publisher:
        return publisher_at(self.kind, self.url, keep=keep, replaces=replaces)

    def contents(self) -> list[str]:
        """Whose rows a reader finds, as often as they are there; all of each are."""
        found = rows(self.kind, self.url)
        said = sorted({content for content, _ in found})
        times = {each: sum(row[0] == each for row in found) // targets.ROWS for each in said}
        whole = [each for each in said for _ in range(times[each])]
        assert found == sorted(row for each in whole for row in table_of(each))
        return whole


@pytest.fixture(params=FAULT_POINTS)
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Target:
    return Target(request.param, request, tmp_path)


def test_a_run_adds_its_rows_and_one_that_is_repeated_replaces_them_alone(target: Target) -> None:
    publisher = target.publisher()
    for content in ("one", "two", "three"):
        run(publisher, content)
    assert target.contents() == ["one", "three", "two"]
    current = publisher.current()
    assert current is not None
    assert (current.run_id, current.rows) == ("three", 3 * targets.ROWS)
    for content in ("again", "more"):
        run(publisher, content, run_id="two")
        assert target.contents() == sorted(["one", "three", content])


def test_a_rollback_takes_the_rows_away_and_the_run_may_be_repeated(target: Target) -> None:
    publisher = target.publisher()
    run(publisher, "one")
    run(publisher, "two")
    with publisher.lock("rollback"):
        publisher.rollback(publisher.versions()[0])
    assert target.contents() == ["one"]
    publisher.check("two")
    run(publisher, "again", run_id="two")
    assert target.contents() == ["again", "one"]
    with publisher.lock("rollback"):
        publisher.rollback(publisher.versions()[0])
    run(publisher, "one")
    assert target.contents() == ["one"]


def test_a_commit_that_is_repeated_adds_nothing(target: Target) -> None:
    publisher = target.publisher()
    run(publisher, "one")
    with publisher.lock("two"):
        attempt = publisher.prepare("two")
        content = content_of(publisher, "two", write_all(attempt, "two"))
        publisher.commit(attempt, content)
        publisher.commit(attempt, content)
        target.publisher().commit(attempt, content)
    assert target.contents() == ["one", "two"]


def test_rows_are_added_to_what_a_run_has_replaced(target: Target) -> None:
    run(target.publisher(), "before")
    run(target.publisher("table"), "whole")
    run(target.publisher(), "one")
    assert target.contents() == ["one", "whole"]
    run(target.publisher(), "other", run_id="whole")
    run(target.publisher(), "before")
    assert target.contents() == ["before", "one", "other"]


def test_partitions_that_a_run_has_replaced_are_no_longer_of_those_before(target: Target) -> None:
    run(target.publisher(), "one")
    run(target.publisher("partitions"), "two")
    assert target.contents() == ["two"]
    run(target.publisher(), "one")
    run(target.publisher(), "more", run_id="two")
    assert target.contents() == ["more", "one"]


def test_a_run_replaces_all_that_its_tries_have_left_in_partitions(target: Target) -> None:
    run(target.publisher("partitions"), "one")
    _of_one_kind(target.publisher("partitions"), "one", "more")
    found = Counter(rows(target.kind, target.url))
    assert found == {("one", KINDS[1]): targets.ROWS // 2, ("more", KINDS[0]): 1}
    target.publisher().check("one")
    run(target.publisher(), "again", run_id="one")
    assert target.contents() == ["again"]


def _of_one_kind(publisher: Publisher, name: str, content: str) -> None:
    """A run that has one row."""
    with publisher.lock(name):
        attempt = publisher.prepare(name)
        sink = Sink(attempt.place, "part-0", attempt.file_schema(SCHEMA, BY), partition_by=BY)
        row = pa.record_batch([[content], [KINDS[0]]], schema=SCHEMA)
        publisher.commit(attempt, content_of(publisher, name, tuple(sink.write([row]))))


def test_a_run_without_rows_takes_away_what_it_had_added(target: Target) -> None:
    publisher = target.publisher()
    run(publisher, "one")
    run(publisher, "two")
    for _ in range(2):
        with publisher.lock("two"):
            attempt = publisher.prepare("two")
            publisher.commit(attempt, Content((), SCHEMA, BY))
        assert target.contents() == ["one"]
    run(publisher, "two")
    assert target.contents() == ["one", "two"]


def test_bad_rows_of_a_run_stay_as_long_as_its_rows(target: Target) -> None:
    publisher = target.publisher(keep=0)
    nights = [_with_bad_rows(publisher, name) for name in ("one", "two", "three")]
    assert [publisher.note(each, BAD) for each in nights] == [b"bad"] * 3
    reports = [publisher.note(each, "_kvspark/run.json") for each in nights]
    assert [each is None for each in reports] == [True, True, False]
    run(publisher, "other", run_id="one")
    run(publisher, "four")  # which removes what was in use until the run before
    assert [publisher.note(each, BAD) for each in nights] == [None, b"bad", b"bad"]


def _with_bad_rows(publisher: Publisher, name: str) -> Published:
    """What a run publishes that has set rows aside, and published no others."""
    with publisher.lock(name):
        attempt = publisher.prepare(name)
        path = attempt.place.path("bad.parquet", "_kvspark/quarantine")
        stream = attempt.place.create(path)
        stream.write(b"bad")
        stream.close()
        content = content_of(publisher, name, ())
        publisher.commit(attempt, replace(content, beside=(path,)))
    current = publisher.current()
    assert current is not None
    return current


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "point"), [(kind, point) for kind, points in FAULT_POINTS.items() for point in points]
)
def test_a_run_that_is_killed_has_added_all_or_nothing(
    kind: str, point: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    target = Target(kind, request, tmp_path)
    for name in ("zero", "one", "zero"):
        run(target.publisher(), name)
    run(target.publisher(), "old", run_id="again")

    def killed() -> None:
        killed_at(point, targets.main, kind, target.url, "run", "again", "run")

    found = while_reading(target.contents, killed)
    assert all(each in (["old", "one", "zero"], ["again", "one", "zero"]) for each in found)
    run(target.publisher(), "new", run_id="again")
    assert target.contents() == ["new", "one", "zero"]
    assert left_over(kind, target.url) == []


def test_a_name_says_of_which_run_it_is_whatever_the_id() -> None:
    ids = ["a", "a=b", "a_b", "x" * 100, "x" * 99, "a-b", "b"]
    for one in ids:
        name = attempt_name(one)
        assert [is_of_run(name, other) for other in ids] == [one == other for other in ids]
        assert len(name) < 120


@pytest.mark.parametrize("data", [None, b"", b"{}", b"[1]", b'{"format": 2, "files": {}}'])
def test_a_table_of_which_it_is_not_known_who_added_what_is_not_added_to(
    data: bytes | None,
) -> None:
    with pytest.raises(OutputError, match=r"not known which run has added which.*mode: replace"):
        AddedRuns.from_bytes(data, "table")
