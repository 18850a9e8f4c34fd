"""The history of an output: a line a run, carried on by each run, readable whatever happened to it."""

from __future__ import annotations

import io
import json
import tempfile
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from kvspark.cli import run
from kvspark.report.fields import RUN_FIELDS, STAGE_FIELDS
from kvspark.report.past_runs import print_history
from kvspark.spark.output.target import Target
from kvspark.spark.runs.history import KEPT, PastRun, read_history, write_history, write_report
from kvspark.spark.runs.run_report import RunReport, read_report
from tests.report.test_run_report import REPORT


def night(number: int) -> RunReport:
    return replace(
        REPORT, run_id=f"night-{number}", started_at=f"2026-01-{number:02}T01:00:00+00:00"
    )


def publish(output: Path, report: RunReport, *, keep: int = 0) -> None:
    """What a run does: its report and history are staged, and take the place of what was there."""
    target = Target(str(output), keep=keep)
    with target.lock(report.run_id):
        staged = target.stage(report.run_id)
        write_report(replace(report, output=str(output)), staged, output=output)
        target.publish(staged)


def ids(output: Path) -> list[str]:
    return [past.run_id for past in read_history(output)]


def test_each_run_adds_a_line_to_those_of_the_output_that_it_replaces(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        publish(tmp_path / "out", night(number))
    assert ids(tmp_path / "out") == ["night-1", "night-2", "night-3"]
    lines = (tmp_path / "out/_kvspark/history.jsonl").read_text().splitlines()
    assert len(lines) == 3
    assert json.loads(lines[-1])["stages"]["head"]["hits"] == 850


def test_a_second_run_of_one_id_is_a_run_of_its_own(tmp_path: Path) -> None:
    publish(tmp_path / "out", night(1))
    publish(tmp_path / "out", replace(night(2), run_id="night-1"))
    assert ids(tmp_path / "out") == ["night-1", "night-1"]


def test_after_going_back_no_run_is_forgotten(tmp_path: Path) -> None:
    out = tmp_path / "out"
    publish(out, night(1))
    publish(out, night(2), keep=1)
    target = Target(str(out), keep=1)
    with target.lock("back"):
        target.restore(target.versions()[0])
    report = read_report(out / "_kvspark")
    assert report is not None
    assert report.run_id == "night-1"
    assert ids(out) == ["night-1", "night-2"]
    publish(out, night(3), keep=1)
    assert ids(out) == ["night-1", "night-2", "night-3"]


def test_an_output_of_before_has_the_history_that_its_report_tells(tmp_path: Path) -> None:
    night(1).write(tmp_path / "out/_kvspark")
    assert ids(tmp_path / "out") == ["night-1"]
    assert read_history(tmp_path / "none") == ()


def test_a_history_has_an_end(tmp_path: Path) -> None:
    runs = [PastRun(f"{n}", f"{n:06}") for n in range(KEPT + 100)]
    write_history(tmp_path, runs)
    assert len((tmp_path / "history.jsonl").read_text().splitlines()) == KEPT
    (tmp_path / "out/_kvspark").mkdir(parents=True)
    (tmp_path / "history.jsonl").rename(tmp_path / "out/_kvspark/history.jsonl")
    assert read_history(tmp_path / "out") == tuple(runs[100:])


@given(
    st.one_of(
        st.text(),
        st.recursive(
            st.one_of(st.none(), st.booleans(), st.floats(), st.integers(), st.text()),
            lambda inner: st.one_of(
                st.lists(inner, max_size=3),
                st.dictionaries(
                    st.sampled_from(["run_id", "started_at", "stages", "rows_in", "bad_rows", "x"]),
                    inner,
                    max_size=6,
                ),
            ),
        ).map(json.dumps),
    )
)
def test_a_damaged_line_is_left_out_and_the_others_stay(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        publish(out, night(1))
        path = out / "_kvspark/history.jsonl"
        path.write_text(f"{text}\n{path.read_text()}", encoding="utf-8", errors="replace")
        assert ids(out)[-1:] == ["night-1"] or "started_at" in text
        print_history(
            read_history(out), published=None, last=5, console=Console(file=io.StringIO())
        )


def test_a_line_has_only_names_that_are_explained() -> None:
    assert {field.name for field in fields(PastRun)} <= set(RUN_FIELDS)
    line = PastRun.from_json(REPORT.to_json()).to_json()
    assert set(line["stages"]["head"]) <= set(STAGE_FIELDS)


def test_the_command_shows_the_last_run_and_those_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for number in range(1, 5):
        publish(tmp_path / "out", night(number))
    assert run(["report", str(tmp_path / "out"), "--last", "3"]) == 0
    text = capsys.readouterr().out
    assert "run night-4 of scores[red]" in text
    assert [f"night-{n}" in text for n in range(1, 5)] == [False, True, True, True]
    assert "*  what readers find now" in text
    assert "d  degraded" in text
    assert "1 older run: --last 4" in text
    lines = [line for line in text.splitlines() if not line.startswith("output: ")]
    assert max(map(len, lines)) <= 80
    assert "…" not in text


def test_the_json_holds_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish(tmp_path / "out", night(1))
    publish(tmp_path / "out", night(2))
    conf = tmp_path / "score.yaml"
    conf.write_text(
        f"run: {{name: a}}\ninput: {{paths: [in]}}\nmodel: {{path: m}}\noutput: {{path: {tmp_path}/out}}\n"
    )
    assert run(["report", str(conf), "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["run"] == json.loads((tmp_path / "out/_kvspark/run.json").read_text())
    assert [past["run_id"] for past in value["history"]] == ["night-1", "night-2"]


def test_a_folder_without_a_report_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["report", str(tmp_path)]) == 64
    assert capsys.readouterr().err.startswith(f"KVS-1001 {tmp_path} has no report of a run")
