"""What a report says of a stage that rested: how many rows, since when, and why."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from math import isclose
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvspark.report.rests import rest_lines
from kvspark.report.terminal import print_report
from kvspark.spark.runs.run_report import RunReport, read_report
from kvspark.stats import NOTHING, Rest, RunStats, StageStats
from tests.report.test_run_report import REPORT

SLOWER = Rest("2026-01-03T01:00:04+00:00", {"slower": 1}, 3.6, 0.4)


def rested(rest: Rest | None) -> RunReport:
    rests = {} if rest is None else {"head": rest}
    stages = {"head": StageStats(rows=1_000, rested=1_234)}
    return replace(REPORT, stats=replace(REPORT.stats, stages=stages, rests=rests))


def test_rows_that_rested_are_told_with_the_time_and_the_two_numbers_that_decided() -> None:
    (line,) = rest_lines(rested(SLOWER))
    assert line == (
        "1,234 rows of head were neither looked up nor written, from 4 s after the start, at 01:00:04 UTC on: "
        "looking a row up takes 4 us, computing it less than 1 (plan.watch)"
    )


@pytest.mark.parametrize(
    ("reasons", "why"),
    [
        ({"forgets": 2, "slower": 1}, "the store had forgotten what was inserted a moment before"),
        ({"owes": 1}, "look-ups and inserts cost more than they saved"),
    ],
)
def test_the_most_frequent_reason_is_told(reasons: dict[str, int], why: str) -> None:
    (line,) = rest_lines(rested(Rest("2026-01-03T01:00:04+00:00", reasons)))
    assert why in line


def test_a_worker_that_left_the_store_alone_before_the_run_did_so_from_the_start() -> None:
    (line,) = rest_lines(rested(replace(SLOWER, since="2026-01-02T23:00:00+00:00")))
    assert "written, from the start on: looking" in line


def test_the_report_keeps_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = rested(SLOWER)
    report.write(tmp_path)
    value = json.loads((tmp_path / "run.json").read_text())
    assert value["stages"]["head"]["rest"]["since"] == SLOWER.since
    assert value["stages"]["trunk"]["rest"] is None
    found = read_report(tmp_path)
    assert found is not None
    assert found.stats.rests == {"head": SLOWER}
    print_report(found)
    assert "4 s after the start" in " ".join(capsys.readouterr().out.split())


def test_a_report_of_an_older_version_says_what_it_knows(tmp_path: Path) -> None:
    report = rested(SLOWER)
    value = report.to_json()
    for stage in value["stages"].values():
        del stage["rest"]
    old = RunReport.from_json(value)
    assert old.stats.rests == {}
    assert rest_lines(old) == [
        "1,234 rows of head were neither looked up nor written: computing them costs less (plan.watch)"
    ]


RESTS = st.builds(
    Rest,
    st.integers(0, 59).map(lambda second: f"2026-01-03T01:00:{second:02d}+00:00"),
    st.dictionaries(st.sampled_from(["slower", "forgets", "owes"]), st.integers(1, 9), min_size=1),
    st.integers(0, 100).map(float),
    st.integers(0, 100).map(float),
)
STATS = st.dictionaries(st.sampled_from(["trunk", "head"]), RESTS).map(
    lambda rests: RunStats(rests=rests)
)


def near(a: RunStats, b: RunStats) -> bool:
    return a.rests.keys() == b.rests.keys() and all(
        (one.since, one.reasons) == (two.since, two.reasons)
        and isclose(one.lookup_us, two.lookup_us, abs_tol=1e-9)
        and isclose(one.compute_us, two.compute_us, abs_tol=1e-9)
        for one, two in ((a.rests[name], b.rests[name]) for name in a.rests)
    )


@given(STATS, STATS, STATS)
def test_tasks_may_be_merged_in_any_order(a: RunStats, b: RunStats, c: RunStats) -> None:
    assert near((a + b) + c, a + (b + c))
    assert near(a + b, b + a)
    assert NOTHING + a == a
    assert pickle.loads(pickle.dumps(a)) == a
    assert RunStats.from_json(json.loads(json.dumps(a.to_json()))) == a


def test_the_mean_of_all_workers_is_told() -> None:
    two = SLOWER + Rest("2026-01-03T01:00:02+00:00", {"slower": 1, "owes": 3}, 5.6, 1.4)
    assert two.since == "2026-01-03T01:00:02+00:00"
    assert two.reasons == {"owes": 3, "slower": 2}
    assert two.lookup_us == pytest.approx(4.6)
    assert two.compute_us == pytest.approx(0.9)
