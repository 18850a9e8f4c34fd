"""`--run-date`: the day of a run in the paths of its conf, checked before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvspark.cli import app

CONF = """\
run: {name: nightly}
input: {paths: ["in/dt={{ run.date - 1d }}"]}
model: {path: model}
output: {path: "out/{{ run.date }}"}
"""


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--run-date", "2026-03-01"], 65, "in/dt=2026-02-28"),
        (
            ["--run-date", "2026-02-30"],
            64,
            "--run-date: '2026-02-30' is no date; write one as 2026-01-31",
        ),
        (["--run-date", "yesterday"], 64, "--run-date: 'yesterday' is no date"),
        ([], 64, "the run has no date; give one, the same for a rerun: --run-date 2026-01-31"),
    ],
    ids=["day", "february", "word", "none"],
)
def test_the_day_is_given_and_checked(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    told: str,
) -> None:
    conf = tmp_path / "score.yaml"
    conf.write_text(CONF, encoding="utf-8")
    assert app.run(["score", str(conf), *arguments]) == code
    printed = capsys.readouterr().err
    assert told in printed
    assert printed.count("\n") == 1


def test_a_placeholder_without_quotes_says_what_to_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    conf = tmp_path / "score.yaml"
    conf.write_text(CONF.replace('"out/{{ run.date }}"', "{{ run.date }}"), encoding="utf-8")
    assert app.run(["score", str(conf), "--run-date", "2026-01-01"]) == 64
    assert "write '{{ ... }}' in quotes" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", ["check", "doctor", "purge", "report", "rollback", "score", "tune", "warm"]
)
def test_every_command_that_takes_a_conf_takes_its_day(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    conf = tmp_path / "score.yaml"
    conf.write_text(CONF, encoding="utf-8")
    more = ["--older-than", "1d"] if command == "purge" else []
    assert app.run([command, str(conf), *more]) == 64
    assert "the run has no date" in capsys.readouterr().err
    app.run([command, str(conf), *more, "--run-date", "2026-03-01"])
    printed = capsys.readouterr()
    assert "the run has no date" not in printed.err
    assert "No such option" not in printed.err


def test_a_flag_that_is_none_names_the_help_of_its_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.run(["check", str(tmp_path), "--rundate", "2026-03-01"]) == 64
    assert capsys.readouterr().err.endswith("See kvspark check --help.\n")
