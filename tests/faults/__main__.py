"""Every row of the matrix, run, and told in one table: `make faults`.

    python -m tests.faults [--no-night] [options of pytest]

A row with several tests is right if all of them are; `fired` is how often its faults happened, and
`seconds over` the most that a run with the fault took longer than without a cache. Exit code 1 if an
output is wrong, a fault did not happen, or a run took more than 1.05 times as long and 5 s.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import pytest
from rich.console import Console
from rich.table import Table

from kvspark.config.sealing import KEY_ENV
from tests.faults.matrix import KILLS_ENV, NOT_HERE, ROWS
from tests.sealing_keys import TEST_KEYS

MOST_SHARE = 1.05
MOST_S = 5.0


@final
@dataclass
class Line:
    """One line of the table."""

    what: str
    fired: int = 0
    output: str = ""
    """What went wrong; empty if nothing did."""
    skipped: str = ""
    over_s: float | None = None
    is_late: bool = False

    def timed(self, seconds: float, seconds_off: float) -> None:
        """Counts a run with the fault, beside one without a cache."""
        self.over_s = max(self.over_s or 0.0, seconds - seconds_off)
        self.is_late |= seconds > MOST_SHARE * seconds_off + MOST_S

    @property
    def is_right(self) -> bool:
        return not (self.output or self.skipped or self.is_late) and self.fired > 0


@final
class Lines:
    """Gathers what the tests of rows came to; a plugin of pytest."""

    def __init__(self) -> None:
        self.of: dict[str, Line] = {}

    def line(self, row: str, what: str = "") -> Line:
        """The line of a row, or of one way to have it."""
        name = what or f"{row}: {ROWS[row]}"
        return self.of.setdefault(name, Line(name))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Reads one phase of one test."""
        report = yield
        rows = [str(row) for marker in item.iter_markers("covers") for row in marker.args]
        if report.when == "call" or not report.passed:
            told: list[Any] = [value for name, value in item.user_properties if name == "fault"]
            for row in rows:
                self._count(row, report, [t for t in told if _row_of(t) == row])
        return report

    def _count(self, row: str, report: pytest.TestReport, told: Sequence[Any]) -> None:
        # A test elsewhere has its fault in its hands: bad input, a kill that it waited for.
        for fault in told or [{"row": row, "fired": int(report.passed)}]:
            what = str(fault["row"])
            line = self.line(row, what if what != row else "")
            line.fired += int(fault["fired"])
            if "seconds" in fault:
                line.timed(float(fault["seconds"]), float(fault["seconds_off"]))
            if report.failed:
                line.output = f"failed: {report.nodeid.rpartition('::')[2]}"
            elif report.skipped:
                line.skipped = str(report.longrepr[2] if report.longrepr else "skipped")  # type: ignore[index]  # of a skip: file, line, reason


def _row_of(fault: Mapping[str, Any]) -> str:
    return str(fault["row"]).partition(":")[0]


def dark_night(lines: Lines) -> None:
    """The hidden cost: a whole night whose cache is a black hole."""
    from tests.faults.night import night_in_the_dark

    with tempfile.TemporaryDirectory() as folder:
        night = night_in_the_dark(Path(folder))
    line = lines.line("F8", f"F8: a black hole, the demo's night of {night.rows:,} rows in Spark")
    line.fired = night.fired
    line.output = "" if night.is_equal else "another output"
    line.timed(night.seconds, night.seconds_off)


def table(lines: Lines) -> Table:
    """What was found, in the order of the matrix."""
    made = Table("row", "fired", "output", "seconds over", title="make faults")
    order = list(ROWS)
    for line in sorted(
        lines.of.values(), key=lambda each: order.index(each.what.partition(":")[0])
    ):
        output = line.output or ("skipped: " + line.skipped if line.skipped else "right")
        over = "" if line.over_s is None else f"{line.over_s:.1f}{' too many' * line.is_late}"
        style = None if line.is_right else "yellow" if line.skipped else "bold red"
        made.add_row(line.what, str(line.fired), output, over, style=style)
    for row, reason in NOT_HERE.items():
        made.add_row(f"{row}: {ROWS[row]}", "-", f"not here: {reason}", "", style="dim")
    return made


def main(arguments: list[str]) -> int:
    """The exit code."""
    os.environ[KEY_ENV] = TEST_KEYS
    os.environ.setdefault(KILLS_ENV, "5")
    lines = Lines()
    with_night = "--no-night" not in arguments
    options = [each for each in arguments if each != "--no-night"]
    tests = str(Path(__file__).parents[1])
    pytest.main(["-m", "covers", "-q", "--no-header", *options, tests], plugins=[lines])
    if with_night:
        dark_night(lines)
    console = Console(width=160)
    console.print(table(lines))
    named = {line.what.partition(":")[0] for line in lines.of.values()} | set(NOT_HERE)
    missing = [row for row in ROWS if row not in named]
    if missing and not options:
        console.print(f"rows without a test: {', '.join(missing)}", style="bold red")
    wrong = [line for line in lines.of.values() if not (line.is_right or line.skipped)]
    return 1 if wrong or (missing and not options) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
