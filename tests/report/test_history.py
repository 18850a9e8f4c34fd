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
from kvspark.report.fields import HISTORY_FIELDS, RUN_FIELDS, STAGE_FIELDS
from kvspark.report.past_runs import print_history
from kvspark.spark.output.target import Target
from kvspark.spark.runs.history import (
    KEPT,
    KEPT_UNPUBLISHED,
    PastRun,
    add_run,
    drop_taken,
    read_history,
    write_history,
    write_report,
)
from kvspark.spark.runs.run_report import RunReport, read_report
from kvspark.spark.runs.unpublished import unpublished_lines
from tests.report.test_run_report import REPORT
from tests.spark.publishing import killed


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
    assert {field.name for field in fields(PastRun)} == {
        *({field.name for field in fields(PastRun)} & set(RUN_FIELDS)),
        *HISTORY_FIELDS,
    }
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
    assert run(["report", str(tmp_path / "gone")]) == 64
    assert capsys.readouterr().err.startswith(f"KVS-1001 {tmp_path}/gone does not exist; name")


def failed(number: int, state: str = "failed") -> PastRun:
    return PastRun(
        f"bad-{number}",
        f"2026-02-01T00:{number // 60:02}:{number % 60:02}.000+00:00",
        state=state,
        exit_code=65,
        code="KVS-1100",
        phase="read",
        message="input path /in does not exist",
    )


def test_a_run_that_failed_has_a_line_until_the_next_takes_it_along(tmp_path: Path) -> None:
    out = tmp_path / "out"
    publish(out, night(1))
    before = sorted(path.name for path in out.rglob("*"))
    add_run(out, failed(1))
    assert sorted(path.name for path in out.rglob("*")) == before
    assert ids(out) == ["night-1", "bad-1"]
    report = replace(night(2), started_at="2026-03-01T00:00:00+00:00")
    publish(out, report)
    drop_taken(out)
    assert not (tmp_path / ".kvspark-out" / "unpublished.jsonl").exists()
    assert ids(out) == ["night-1", "bad-1", "night-2"]
    assert [run.state for run in read_history(out)] == ["published", "failed", "published"]


def test_a_line_that_comes_after_the_history_was_written_stays(tmp_path: Path) -> None:
    out = tmp_path / "out"
    publish(out, night(1))
    add_run(out, failed(1))  # later than the run that has published
    drop_taken(out)
    assert ids(out) == ["night-1", "bad-1"]
    assert len(unpublished_lines(out)) == 1


def test_a_job_that_fails_each_minute_pushes_no_published_run_out(tmp_path: Path) -> None:
    out = tmp_path / "out"
    publish(out, night(1))
    for number in range(500):
        add_run(out, failed(number))
    runs = read_history(out)
    assert runs[0].run_id == "night-1"
    assert [run.run_id for run in runs[-2:]] == ["bad-498", "bad-499"]
    assert len(runs) == KEPT_UNPUBLISHED + 1


def test_a_file_of_lines_has_an_end(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for number in range(3000):
        add_run(out, replace(failed(number % 3600), message="x" * 500))
    assert (tmp_path / ".kvspark-out" / "unpublished.jsonl").stat().st_size < 1_000_000
    assert ids(out)[-1] == "bad-2999"


def test_a_run_that_died_has_its_line_when_the_next_one_begins(tmp_path: Path) -> None:
    out = tmp_path / "out"
    killed("publish", out, "exchange", "night", "synced")
    assert [run.state for run in read_history(out)] == []
    with Target(str(out)).lock("next"):
        (run,) = read_history(out)
    assert (run.run_id, run.state, run.exit_code) == ("night", "died", None)


def test_a_run_that_was_killed_after_it_had_published_is_no_dead_run(tmp_path: Path) -> None:
    out = tmp_path / "out"
    publish(out, replace(night(1), started_at="2999-01-01T00:00:00+00:00"))
    (tmp_path / ".kvspark-out").mkdir()
    note = {"run": "night-1", "since": "2026-01-01T00:00:00+00:00"}
    (tmp_path / ".kvspark-out" / "lock").write_text(json.dumps(note))
    with Target(str(out)).lock("next"):
        assert ids(out) == ["night-1"]


def test_the_command_says_how_runs_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    out = tmp_path / "out"
    add_run(out, failed(1))
    assert run(["report", str(out)]) == 0
    text = capsys.readouterr().out
    assert f"{out}: no run has published yet" in text
    assert (
        "2026-02-01 00:00 bad-1: failed in phase read, exit code 65: KVS-1100 input path /in does not "
        "exist" in text
    )
    assert "f  failed: nothing was published" in text
    publish(out, night(1))
    add_run(out, failed(2, "interrupted"))
    assert run(["report", str(out), "--json"]) == 0
    history = json.loads(capsys.readouterr().out)["history"]
    assert [(line["run_id"], line["state"], line["phase"]) for line in history] == [
        ("night-1", "published", None),
        ("bad-1", "failed", "read"),
        ("bad-2", "interrupted", "read"),
    ]
