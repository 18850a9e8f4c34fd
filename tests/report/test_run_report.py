"""The report of a run: what it says, and how its estimate is made."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from kvspark.errors import DataError
from kvspark.report.terminal import print_report
from kvspark.spark.runs.run_report import (
    RunReport,
    StageReport,
    known_seconds,
    read_report,
    seconds_saved,
)
from kvspark.stats import RunStats, StageStats

TRUNK = StageReport("trunk", "aa" * 32, (), seconds_per_row=0.010)
HEAD = StageReport("head", "bb" * 32, ("trunk",), seconds_per_row=0.001)

STATS = RunStats(
    rows=1000,
    stages={
        "trunk": StageStats(rows=100, lookups=100, hits=90, computed=10, seconds_lookup=0.5),
        "head": StageStats(rows=1000, lookups=950, hits=850, duplicates=50, computed=100),
    },
    cache_errors={"timeout": 3},
    degraded=frozenset({"timeout"}),
)

REPORT = RunReport(
    run_id="night-2",
    name="scores[red]",
    logical_date="2026-01-02",
    started_at="2026-01-03T01:00:00+00:00",
    model="mlp",
    fingerprint="bb" * 32,
    output="/data/out",
    inputs=("/data/in",),
    rows_in=1000,
    rows_out=1000,
    input_files=3,
    empty_input_files=1,
    output_files=2,
    output_bytes=123_456,
    stages=(TRUNK, HEAD),
    stats=STATS,
    cache="redis://127.0.0.1:6379",
    seconds={"open": 1.0, "score": 9.0, "publish": 0.0},
    seconds_saved=9.75,
)


def shown(report: RunReport) -> str:
    written = io.StringIO()
    print_report(report, Console(file=written, width=100))
    return written.getvalue()


def test_a_hit_saves_its_stage_and_all_that_lead_to_it() -> None:
    # 850 x (10 + 1) ms + 90 x 10 ms - 0.5 s of looking up.
    assert seconds_saved((TRUNK, HEAD), STATS) == pytest.approx(9.35 + 0.9 - 0.5)


def test_a_stage_that_two_stages_need_is_saved_once() -> None:
    left = StageReport("left", "cc" * 32, ("trunk",), 0.0)
    right = StageReport("right", "dd" * 32, ("trunk",), 0.0)
    last = StageReport("last", "ee" * 32, ("left", "right"), 0.0)
    stats = RunStats(stages={"last": StageStats(hits=100)})
    assert seconds_saved((TRUNK, left, right, last), stats) == pytest.approx(1.0)


def test_what_nobody_measured_counts_as_nothing() -> None:
    unknown = replace(TRUNK, seconds_per_row=None)
    assert seconds_saved((unknown, HEAD), STATS) == pytest.approx(0.85 - 0.5)


def test_the_json_holds_counts_by_stage_and_no_surprises(tmp_path: Path) -> None:
    REPORT.write(tmp_path / "_kvspark")
    value = json.loads((tmp_path / "_kvspark" / "run.json").read_text())
    assert value["stages"]["head"]["hits"] == 850
    assert value["cache_errors"] == {"timeout": 3}
    assert value["degraded"] == ["timeout"]
    assert REPORT.degraded == {"timeout"}
    assert REPORT.cache_errors == value["cache_errors"]
    assert value["total_seconds"] == 10.0
    assert (value["rows_in"], value["rows_out"]) == (1000, 1000)


def test_the_next_run_knows_what_this_one_measured(tmp_path: Path) -> None:
    REPORT.write(tmp_path / "_kvspark")
    assert known_seconds(tmp_path, "_kvspark") == {"aa" * 32: 0.010, "bb" * 32: 0.001}


@pytest.mark.parametrize("text", ["", "[]", "{", '{"stages": 1}', '{"stages": {"a": []}}'])
def test_a_damaged_report_is_no_report(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    assert known_seconds(tmp_path, ".") == {}


def test_a_person_sees_counts_troubles_and_the_output() -> None:
    text = shown(REPORT)
    for part in (
        "night-2",
        "scores[red]",
        "850",
        "89.5%",
        "degraded",
        "timeout 3",
        "/data/out",
        "9.8 s",
    ):
        assert part in text
    assert max(map(len, text.splitlines())) <= 100


def test_a_person_sees_what_became_of_rows_that_were_there() -> None:
    assert "of the rows there" not in shown(REPORT)
    text = shown(replace(REPORT, rows_replaced=1_200, rows_removed=1))
    assert "of the rows there, 1,200 rows replaced and 1 removed" in text


def test_a_healthy_run_without_a_cache_speaks_of_neither() -> None:
    healthy = replace(REPORT, stats=RunStats(rows=1000), cache=None, seconds_saved=None)
    text = shown(healthy)
    assert "degraded" not in text
    assert "saved" not in text


@pytest.mark.parametrize("times", [1, 1_000_000])
def test_everything_fits_a_terminal_of_80_columns(times: int) -> None:
    counts = {
        "rows": 987 * times,
        "lookups": 950 * times,
        "hits": 850 * times,
    }
    stage = StageStats(
        **counts, duplicates=50 * times, computed=100 * times, seconds_compute=99999.9
    )
    stats = replace(STATS, stages=dict.fromkeys(("trunk", "head"), stage))
    long = replace(REPORT, stats=stats, rows_in=987 * times, output="/data/" + "x" * 100)
    written = io.StringIO()
    print_report(long, Console(file=written, width=80))
    lines = written.getvalue().splitlines()
    assert "duplicates" in written.getvalue()
    assert "…" not in written.getvalue()
    assert [line for line in lines if len(line) > 80] == [lines[-1]]  # no path is broken


@pytest.mark.parametrize("name", ["output", "embedding_0"])
def test_a_stage_is_named_on_one_line_of_80_columns(name: str) -> None:
    stage = StageStats(rows=19_935, lookups=19_935, hits=19_935)
    report = replace(
        REPORT, stats=replace(STATS, stages={name: stage}), stages=(StageReport(name, "aa", ()),)
    )
    written = io.StringIO()
    print_report(report, Console(file=written, width=80))
    assert any(line.split()[:2] == [name, "19,935"] for line in written.getvalue().splitlines())


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    REPORT.write(tmp_path)
    assert read_report(tmp_path) == replace(REPORT, stats=replace(STATS, rows=REPORT.rows_in))
    assert read_report(tmp_path / "gone") is None


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": 2}', '{"format": 1}', "\udcff"])
def test_a_report_that_cannot_be_read_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text, errors="surrogateescape")
    with pytest.raises(DataError, match=r"run\.json is no report that this version can read"):
        read_report(tmp_path)
