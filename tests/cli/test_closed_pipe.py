"""Who reads what a command prints may go: no traceback, no wrong exit code, and the work is done."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest

from kvspark.cli.frame.closed_pipe import ignoring_a_closed_pipe


def unread(command: list[str]) -> tuple[int, str]:
    """The exit code and standard error of a command whose standard output is closed before it prints."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False
        )
    finally:
        os.close(writer)
    return done.returncode, done.stderr


@pytest.mark.parametrize("arguments", [["explain"], ["explain", "KVS-1100"], ["--help"]])
def test_a_command_whose_reader_has_gone_ends_without_a_word(arguments: list[str]) -> None:
    assert unread([sys.executable, "-m", "kvspark.cli", *arguments]) == (141, "")


WORK = """
import sys
from kvspark.cli.frame.closed_pipe import ignoring_a_closed_pipe

with ignoring_a_closed_pipe():
    from rich.console import Console

    Console().print("a report" * 100)
print("done", file=sys.stderr)
sys.exit(69)
"""


def test_what_is_printed_at_the_end_does_not_change_how_a_run_ended() -> None:
    assert unread([sys.executable, "-c", WORK]) == (69, "done\n")


def test_other_trouble_with_printing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    with pytest.raises(OSError, match="full"), ignoring_a_closed_pipe():
        raise OSError(28, "full")
    with pytest.raises(SystemExit), ignoring_a_closed_pipe():
        raise SystemExit(1)
