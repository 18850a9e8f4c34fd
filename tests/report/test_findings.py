"""What was found, on a terminal and in a log."""

from __future__ import annotations

import io

from rich.console import Console

from kvspark.cache.doctor.finding import Finding
from kvspark.report.findings import print_findings

LONG = Finding("warn", "cache", " ".join(["words"] * 40), "something else", "change it")


def printed(*, is_terminal: bool) -> list[str]:
    written = io.StringIO()
    console = Console(file=written, width=80, force_terminal=is_terminal, no_color=True)
    print_findings([LONG, Finding("ok", "java", "17")], console)
    return written.getvalue().splitlines()


def test_a_person_sees_80_columns_that_are_broken_between_words() -> None:
    lines = printed(is_terminal=True)
    assert max(map(len, lines)) <= 80
    assert lines[1].startswith("       words")
    assert lines[-1] == "1 ok, 1 warn"


def test_a_log_has_a_line_for_each_finding() -> None:
    lines = printed(is_terminal=False)
    assert len(lines) == 3
    assert lines[0].endswith("change it")
