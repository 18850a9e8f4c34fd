"""What every target promises, whatever it is."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kvspark.errors import OutputError, RunLockedError, ValidationError
from kvspark.table.publish.publisher import Publisher
from tests.killed_process import killed_at
from tests.table.publish import targets
from tests.table.publish.readers import left_over, while_reading
from tests.table.publish.targets import (
    CLOUDS,
    POSIX_KINDS,
    content_of,
    new_url,
    publisher_at,
    rows,
    run,
    table_of,
    write_all,
    written,
)

TARGETS = (
    "posix",
    *("s3", "gcs", "azure", "hdfs"),
    *("delta", "delta-s3"),
    *("iceberg", "iceberg-s3", "iceberg-rest"),
)
OBJECT_POINTS = "fenced sweeping swept told closed synced published discarding".split()
DELTA_POINTS = "fenced sweeping swept told closed synced published discarding".split()
ICEBERG_POINTS = "fencing fenced swept told closed synced planned published discarding".split()
FAULT_POINTS = {
    "posix": ("told", "moving", "moved", "synced", "placed", "exchanged", "settled", "published"),
    "s3": OBJECT_POINTS,
    "gcs": OBJECT_POINTS,
    "azure": OBJECT_POINTS,
    "hdfs": OBJECT_POINTS,
    "delta": DELTA_POINTS,
    "delta-s3": DELTA_POINTS,
    "iceberg": ICEBERG_POINTS,
    "iceberg-s3": ICEBERG_POINTS,
    "iceberg-rest": ["fencing", "planned"],
}


class Target:
    """One target of a kind, new for a test."""

    def __init__(self, kind: str, url: str) -> None:
        self.kind = kind
        self.url = url

    def publisher(self, *, owner: str = "small", keep: int = 1) -> Publisher:
        return publisher_at(self.kind, self.url, owner=owner, keep=keep)

    def rows(self) -> list[tuple[str, str]]:
        return rows(self.kind, self.url)


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Target:
    return _new(request.param, request, tmp_path)


def _new(kind: str, request: pytest.FixtureRequest, folder: Path) -> Target:
    server = kind if kind in CLOUDS or kind == "hdfs" else "s3"
    base = "" if kind in POSIX_KINDS else request.getfixturevalue(server).url
    if kind == "iceberg-rest":
        request.getfixturevalue("lake")
    return Target(kind, new_url(kind, base, folder))


def test_a_run_publishes_its_rows_and_no_lost_ones(target: Target) -> None:
    publisher = target.publisher()
    assert publisher.current() is None
    run(publisher, "one")
    assert target.rows() == table_of("one")
    found = target.publisher().current()
    assert found is not None
    assert found.run_id == "one"
    report = target.publisher().note(found, "_kvspark/run.json")
    assert report is not None
    assert json.loads(report)["run_id"] == "one"
    assert target.publisher().note(found, "_kvspark/none.json") is None


def test_the_next_run_replaces_it_and_the_old_one_comes_back(target: Target) -> None:
    publisher = target.publisher()
    run(publisher, "one")
    run(publisher, "two")
    assert target.rows() == table_of("two")
    (before,) = publisher.versions()
    assert before.run_id == "one"
    with publisher.lock("rollback"):
        publisher.rollback(before)
    assert target.rows() == table_of("one")
    assert [each.run_id for each in publisher.versions()] == ["two"]


@pytest.mark.parametrize("keep", [0, 2])
def test_so_many_versions_are_kept(target: Target, keep: int) -> None:
    publisher = target.publisher(keep=keep)
    for content in ("one", "two", "three", "four"):
        run(publisher, content)
    assert [each.run_id for each in publisher.versions()] == ["three", "two"][:keep]


def test_until_the_commit_readers_find_the_old_rows(target: Target) -> None:
    publisher = target.publisher()
    run(publisher, "one")
    with publisher.lock("two"):
        attempt = publisher.prepare("two")
        write_all(attempt, "two")
        assert target.rows() == table_of("one")
        publisher.abort(attempt)
    assert target.rows() == table_of("one")


def test_a_commit_that_is_repeated_does_nothing(target: Target) -> None:
    publisher = target.publisher(keep=5)
    run(publisher, "one")
    with publisher.lock("two"):
        attempt = publisher.prepare("two")
        content = content_of(publisher, "two", write_all(attempt, "two"))
        publisher.commit(attempt, content)
        publisher.commit(attempt, content)
    assert target.rows() == table_of("two")
    assert [each.run_id for each in publisher.versions()] == ["one"]


def test_a_second_run_is_told_who_holds_the_target(target: Target) -> None:
    with target.publisher().lock("one"), pytest.raises(RunLockedError, match="run one holds it"):
        target.publisher().lock("two").__enter__()
    run(target.publisher(), "two")
    assert target.rows() == table_of("two")


def test_who_takes_the_lock_of_a_dead_run_is_told_of_it_once(target: Target) -> None:
    killed_at("anywhere", _die_with_the_lock, target.kind, target.url)
    for dead in ("one", None):
        with target.publisher().lock("two") as found:
            # A folder's own lock writes the line itself.
            assert target.kind == "posix" or (found and found.run_id) == dead


def _die_with_the_lock(kind: str, url: str) -> None:
    with publisher_at(kind, url).lock("one"):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_file_that_is_gone_publishes_nothing(target: Target) -> None:
    publisher = target.publisher()
    run(publisher, "one")
    with publisher.lock("two"):
        attempt = publisher.prepare("two")
        files = write_all(attempt, "two")
        attempt.place.delete(attempt.place.path(files[0].name, files[0].folder))
        with pytest.raises(ValidationError, match="is not there"):
            publisher.commit(attempt, content_of(publisher, "two", files))
        publisher.abort(attempt)
    assert target.rows() == table_of("one")


def test_a_file_of_another_size_publishes_nothing(target: Target) -> None:
    publisher = target.publisher()
    with publisher.lock("one"):
        attempt = publisher.prepare("one")
        first, *others = write_all(attempt, "one")
        files = (replace(first, size_bytes=first.size_bytes + 1), *others)
        with pytest.raises(ValidationError, match="its task wrote"):
            publisher.commit(attempt, content_of(publisher, "one", files))
    assert target.rows() == []


def test_a_task_that_lives_on_adds_no_row(target: Target) -> None:
    publisher = target.publisher()
    with publisher.lock("one"):
        attempt = publisher.prepare("one")
        files = write_all(attempt, "one")
        publisher.commit(attempt, content_of(publisher, "one", files))
    with pytest.raises(OSError, match=r"ended|No such file"):
        written(attempt, "late", 0, 3)
    assert target.rows() == table_of("one")


def test_another_jobs_output_is_not_replaced(target: Target) -> None:
    run(target.publisher(), "one")
    with pytest.raises(OutputError, match=r"another job \(.*small"):
        target.publisher(owner="large").check()
    assert target.rows() == table_of("one")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "point"), [(kind, point) for kind, points in FAULT_POINTS.items() for point in points]
)
def test_a_run_that_is_killed_leaves_one_whole_table(
    kind: str, point: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    target = _new(kind, request, tmp_path)
    run(target.publisher(), "zero")
    run(target.publisher(), "one")
    found = _while_reading(target, lambda: _killed_at(point, target, "two"))
    assert found <= {"one", "two"}
    assert target.rows() in (table_of("one"), table_of("two"))
    run(target.publisher(), "three")
    assert target.rows() == table_of("three")
    assert left_over(target.kind, target.url) == []


@pytest.mark.slow
def test_a_rollback_that_is_killed_leaves_one_whole_table(target: Target) -> None:
    run(target.publisher(), "one")
    run(target.publisher(), "two")

    def killed() -> None:
        killed_at("restored", targets.main, target.kind, target.url, "rollback", "")

    assert _while_reading(target, killed) <= {"one", "two"}
    assert target.rows() == table_of("one")
    run(target.publisher(), "three")
    assert target.rows() == table_of("three")
    assert [each.run_id for each in target.publisher().versions()] == ["one"]
    assert left_over(target.kind, target.url) == []


def _killed_at(point: str, target: Target, content: str) -> None:
    killed_at(point, targets.main, target.kind, target.url, "run", content)


def _while_reading(target: Target, work: Callable[[], None]) -> set[str]:
    """Which tables a reader finds during `work`, by what their rows say; each was whole."""
    found = while_reading(target.rows, work)
    for there in found:
        assert there == (table_of(there[0][0]) if there else [])
    return {there[0][0] if there else "" for there in found}
