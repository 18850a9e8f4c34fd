"""What `kvspark doctor` found, on a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from rich.console import Console
from rich.markup import escape

from kvspark.cache.doctor.finding import Finding, Level
from kvspark.report.lines import say

_INDENT = 7
_COLOURS: dict[Level, str] = {"ok": "green", "warn": "yellow", "bad": "red", "unseen": "dim"}


def print_findings(findings: Iterable[Finding], console: Console | None = None) -> Counter[Level]:
    """How many findings of each level there are; prints each as it comes.

    On a terminal it is broken between words, elsewhere it has a line of its own.
    """
    console = console or Console()
    counts: Counter[Level] = Counter()
    for finding in findings:
        counts[finding.level] += 1
        colour = _COLOURS[finding.level]
        line = f"[{colour}]{finding.level:<6}[/{colour}] {escape(finding.line())}"
        if console.is_terminal:
            say(console, line, indent=_INDENT)
        else:  # a log is searched by line
            console.print(line, highlight=False, soft_wrap=True)
    told = ", ".join(f"{counts[level]} {level}" for level in _COLOURS if counts[level])
    console.print(told, highlight=False)
    return counts
