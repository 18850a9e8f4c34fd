"""kill -9 at every step of publishing, overwriting and rolling back: nothing is lost, nothing is half."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvspark.spark.output.target import Target
from kvspark.spark.runs.history import read_history
from tests.faults.matrix import covers
from tests.spark.publishing import (
    ROWS,
    append,
    content_of,
    killed,
    publish,
    roll_back,
    rows_of,
    target_at,
    write_rows,
)

EXCHANGE = ("placed", "exchanged", "settled")
RENAME = ("placed", "moved_aside", "moved_in", "settled")
SWAPS = [("exchange", fault) for fault in EXCHANGE] + [("rename", fault) for fault in RENAME]
PUBLISHES = [
    (how, fault)
    for how, steps in (("exchange", EXCHANGE), ("rename", RENAME))
    for fault in ("synced", *steps, "discarding", "published")
]
BEFORE = {"synced", "placed", "moved_aside"}
"""Where a publish has not happened yet, once the next run has cleaned up."""


def kept(target: Target) -> list[str | None]:
    return [content_of(version.path) for version in target.versions()]


def cleaned(target: Target) -> None:
    """What the next run does first."""
    with target.lock("next"):
        target.recover()


def hidden(path: Path) -> list[str]:
    folder = path.parent / f".kvspark-{path.name}"
    names = {item.name for item in folder.iterdir()} if folder.exists() else set()
    return sorted(names - {"unpublished.jsonl"})  # a line for each run that was killed


@covers("F39")
@pytest.mark.parametrize(("how", "fault"), PUBLISHES)
def test_a_run_killed_while_it_publishes_leaves_old_or_new_and_every_version(
    tmp_path: Path, how: str, fault: str
) -> None:
    out = tmp_path / "out"
    target = target_at(out, how)
    publish(target, "first")
    publish(target, "second")
    killed("publish", out, how, "third", fault)
    if how == "exchange":  # readers never find anything else, not for a moment
        assert content_of(out) == ("second" if fault in BEFORE else "third")
    cleaned(target)
    assert content_of(out) == ("second" if fault in BEFORE else "third")
    old = ["first"] if fault in BEFORE else ["second", "first"]
    assert kept(target) == (["second"] if fault in {"discarding", "published"} else old)
    assert hidden(out) == ["kept"]
    publish(target, "fourth")
    assert content_of(out) == "fourth"
    assert kept(target) == (["second"] if fault in BEFORE else ["third"])
    assert {item.name for item in tmp_path.iterdir()} == {"out", ".kvspark-out"}


@pytest.mark.parametrize(
    ("how", "fault"), [("exchange", "synced"), ("exchange", "published"), *SWAPS]
)
def test_a_run_killed_while_it_adds_rows_has_added_all_or_none_and_is_repeated(
    tmp_path: Path, how: str, fault: str
) -> None:
    out = tmp_path / "out"
    target = target_at(out, how)
    append(target, "first")
    killed("append", out, how, "second", fault)
    cleaned(target)
    after = {"first": 2 * ROWS} if fault in BEFORE else {"first": 2 * ROWS, "second": 2 * ROWS}
    assert rows_of(out) == after
    for night in ("second", "third"):
        append(target, night)
    assert rows_of(out) == dict.fromkeys(["first", "second", "third"], 2 * ROWS)
    roll_back(target)
    assert rows_of(out) == dict.fromkeys(["first", "second"], 2 * ROWS)


def test_a_first_publish_killed_before_it_leaves_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    killed("publish", out, "exchange", "new", "synced")
    assert not out.exists()
    cleaned(target_at(out))
    assert hidden(out) == []
    assert [run.state for run in read_history(out)] == ["died"]


@pytest.mark.parametrize(("how", "fault"), [("exchange", "synced"), ("rename", "synced"), *SWAPS])
def test_a_foreign_table_outlives_a_run_that_is_killed_while_it_overwrites_it(
    tmp_path: Path, how: str, fault: str
) -> None:
    out = tmp_path / "out"
    for name in ("dt=1/a.parquet", "dt=2/b.parquet", "dt=3/c.parquet"):
        write_rows(out / name, "foreign")
    killed("publish", out, how, "new", fault)
    target = target_at(out, how, overwrite=True)
    cleaned(target)
    assert content_of(out) == ("foreign" if fault in BEFORE else "new")
    assert kept(target) == ([] if fault in BEFORE else ["foreign"])
    for night in ("second", "third"):
        publish(target, night)
    assert content_of(out) == "third"
    aside = [item for item in tmp_path.iterdir() if item.name.startswith("_replaced-out-")]
    assert [content_of(folder) for folder in aside] == ["foreign"]


@pytest.mark.parametrize(("how", "fault"), [*SWAPS, ("exchange", "restored")])
def test_a_rollback_that_is_killed_has_happened_or_not_and_loses_nothing(
    tmp_path: Path, how: str, fault: str
) -> None:
    out = tmp_path / "out"
    target = target_at(out, how, keep=2)
    for night in ("first", "second", "third"):
        publish(target, night)
    killed("rollback", out, how, "", fault)
    cleaned(target)
    is_done = fault not in BEFORE
    assert content_of(out) == ("second" if is_done else "third")
    assert sorted(map(str, kept(target))) == (
        ["first", "third"] if is_done else ["first", "second"]
    )
    assert hidden(out) == ["kept"]
    roll_back(target)
    assert content_of(out) == ("third" if is_done else "second")


@pytest.mark.parametrize(("how", "fault"), SWAPS)
def test_a_rollback_to_a_foreign_table_that_is_killed_loses_nothing(
    tmp_path: Path, how: str, fault: str
) -> None:
    out = tmp_path / "out"
    for name in ("a.parquet", "b.parquet", "c.parquet"):
        write_rows(out / name, "foreign")
    target = target_at(out, how, overwrite=True)
    publish(target, "new")
    killed("rollback", out, how, "", fault)
    cleaned(target)
    is_done = fault not in BEFORE
    assert content_of(out) == ("foreign" if is_done else "new")
    assert kept(target) == ["new" if is_done else "foreign"]
