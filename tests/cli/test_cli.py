"""Whatever goes wrong on the command line is one line on standard error and an exit code."""

from __future__ import annotations

import importlib
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from kvspark import __version__, cli
from kvspark.cli.frame.group import commands
from kvspark.errors import (
    CacheRequiredError,
    DataError,
    KvsparkError,
    OutputError,
    RunLockedError,
    SecretError,
    UsageError,
)
from kvspark.store.files.cold import ColdStore
from kvspark.store.opening.url import cold_folder
from tests.store.calls import set_many

ROOT = Path(__file__).parents[2]

Fail = Callable[[BaseException], int]


@pytest.fixture
def fail() -> Iterator[Fail]:
    """Runs a command that fails with the given error."""

    def fail(error: BaseException, *before: str) -> int:
        @commands.command("fail")
        def command() -> None:
            raise error

        return cli.run([*before, "fail"])

    yield fail
    commands.commands.pop("fail")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score"], "KVS-1001 Missing argument 'CONF'"),
        (["scor"], "KVS-1001 No such command 'scor'"),
        (["score", "gone.yaml"], "KVS-1001 conf file gone.yaml does not exist"),
        (["score", "gone.yaml", "--nope"], "KVS-1001 No such option '--nope'"),
        (["demo", "--nights-dir", "gone"], "KVS-1001 Invalid value for '--nights-dir'"),
    ],
    ids=["argument", "command", "conf", "option", "folder"],
)
def test_a_usage_error_is_one_line_and_64(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(arguments) == 64
    printed = capsys.readouterr()
    assert printed.err.startswith(message)
    assert printed.err.count("\n") == 1
    assert printed.out == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "run.nam=x"], "KVS-1001 --set run.nam: unknown key run.nam"),
        (
            ["--set", "cache.doorkeeper_bytes=1"],
            "KVS-1001 --set cache.doorkeeper_bytes: cache.doorkeeper_bytes is gone: remove it",
        ),
        (["--run-id", "a/b"], "a run id names a folder"),
        (["--set", "cache.password=hunter2"], "a secret is not written in a conf"),
    ],
    ids=["set", "removed", "run_id", "secret"],
)
def test_an_option_of_score_is_checked_with_the_conf(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["score", str(ROOT / "conf/score.yaml"), *options]) == 64
    printed = capsys.readouterr().err
    assert message in printed
    assert "hunter2" not in printed
    assert printed.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("x"), 64),
        (DataError("x"), 65),
        (CacheRequiredError("x"), 69),
        (OutputError("x"), 73),
        (RunLockedError("x"), 75),
        (SecretError("x"), 77),
        (KvsparkError("x"), 70),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_an_error_of_ours_is_its_line_and_its_code(
    fail: Fail, error: KvsparkError, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fail(error) == code
    assert capsys.readouterr().err == f"{error.code} x\n"


def test_an_error_of_ours_from_a_worker_keeps_its_code(
    fail: Fail, capsys: pytest.CaptureFixture[str]
) -> None:
    importlib.import_module("pyspark")
    text = (
        "An exception was thrown from the Python worker. Please see the stack trace below.\n"
        "Traceback (most recent call last):\n"
        "  File worker.py, line 1, in predict\n"
        "kvspark.errors.SchemaError: column 'text': 17 nulls; 0 expected\n"
    )
    assert fail(RuntimeError(text)) == 65
    assert capsys.readouterr().err == "KVS-1101 column 'text': 17 nulls; 0 expected\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("first\nsecond", "KVS-1999 RuntimeError: first (run kvspark --debug for more)"),
        (
            "An error occurred while calling o1.save.\n: org.apache.spark.SparkException: no disk",
            (
                "KVS-1999 RuntimeError: org.apache.spark.SparkException: no disk "
                "(run kvspark --debug for more)"
            ),
        ),
        ("redis://:hunter2@h", "KVS-1999 RuntimeError (run kvspark --debug for more)"),
        ("", "KVS-1999 RuntimeError (run kvspark --debug for more)"),
        (
            "kvspark.errors.NoSuch: x",
            "KVS-1999 RuntimeError: kvspark.errors.NoSuch: x (run kvspark",
        ),
        ("kvspark.errors.annotations: x", "KVS-1999 RuntimeError: kvspark.errors.annotations: x"),
        ("x" * 9999, f"KVS-1999 RuntimeError: {'x' * 400}… (run kvspark --debug for more)"),
    ],
    ids=["lines", "py4j", "password", "nothing", "foreign", "no_class", "long"],
)
def test_an_unexpected_error_is_its_first_line_and_70(
    fail: Fail, text: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fail(RuntimeError(text)) == 70
    printed = capsys.readouterr().err
    assert printed.startswith(line)
    assert printed.count("\n") == 1


def test_a_package_that_is_missing_says_which_extra_has_it(
    fail: Fail, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fail(ModuleNotFoundError("No module", name="pyspark.sql")) == 64
    assert "pyspark is not installed; run pip install 'kvspark[local]'" in capsys.readouterr().err


def test_an_unpickling_error_is_not_taken_for_ours(fail: Fail) -> None:
    assert fail(pickle.UnpicklingError("x")) == 70


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()], ids=["ctrl_c", "abort"])
def test_ctrl_c_is_130(
    fail: Fail, error: BaseException, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fail(error) == 130
    assert capsys.readouterr().err.count("\n") <= 2


def test_an_input_that_is_not_there_is_told_before_spark_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(["score", str(ROOT / "conf/score.yaml"), "--run-id", "1"]) == 65
    printed = capsys.readouterr().err
    assert "data/glosses does not exist; nothing was written" in printed
    assert printed.count("\n") == 1


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--version"]) == 0
    assert capsys.readouterr().out == f"kvspark, version {__version__}\n"


def test_no_arguments_show_the_help_and_are_a_usage_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.run([]) == 64
    printed = capsys.readouterr()
    assert "score" in printed.err + printed.out


def test_the_help_has_a_whole_line_for_each_command_in_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.run(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    commands = lines[lines.index("Commands:") :]
    assert not any(line.endswith("...") for line in commands)


def test_no_java_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cli.run(["score", str(ROOT / "conf/score.yaml")]) == 64
    assert "run apt-get install openjdk-17-jre-headless" in capsys.readouterr().err


def test_the_traceback_is_shown_at_debug_only(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kvspark.cli"]
    quiet = subprocess.run(
        [*command, "score", "gone.yaml"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    loud = subprocess.run(
        [*command, "--debug", "score", "gone.yaml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (quiet.returncode, loud.returncode) == (64, 64)
    assert "Traceback" not in quiet.stderr
    assert "Traceback" in loud.stderr
    assert loud.stderr.endswith(quiet.stderr)


def test_the_job_for_spark_submit_is_the_same_command(tmp_path: Path) -> None:
    """As spark-submit runs it: by its path, from anywhere, with kvspark on the path."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "jobs/score.py"), "gone.yaml"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 64
    assert done.stderr.startswith("KVS-1001 conf file gone.yaml does not exist")


def test_compact_merges_the_segments_of_a_cold_tier(tmp_path: Path) -> None:
    folder = (tmp_path / "cold").as_uri()
    for value in (b"1", b"2"):
        store = ColdStore(cold_folder(folder))
        set_many(store, [(b"a", value)], ttl_s=None)
        store.close()
    command = [sys.executable, "-m", "kvspark.cli", "compact", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "2 segments became 1; 1 entry kept, 1 dropped\n"
    command[-1] = "nowhere://x"
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 64
    assert "file:///PATH" in done.stderr


@pytest.mark.spark
@pytest.mark.slow
def test_spark_submit_takes_our_defaults_and_gives_our_exit_code(tmp_path: Path) -> None:
    conf = tmp_path / "job.yaml"
    conf.write_text("run: {nam: x}\n", encoding="utf-8")
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("spark-submit")),
            "--master=local[1]",
            "--properties-file=conf/spark-defaults.conf",
            "jobs/score.py",
            str(conf),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYSPARK_PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 64
    # spark-submit lays the program's standard error on its own standard output.
    assert f"KVS-1001 {conf} line 1: unknown key run.nam; did you mean run.name?" in done.stdout
