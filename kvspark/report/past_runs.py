"""The history of an output on a terminal, a line a run."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kvspark.spark.runs.history import PUBLISHED, PastRun
from kvspark.wording import count_of

_COLUMNS = ("rows", "hit rate", "computed", "s", "saved s")
_MARKS = {
    "*": "what readers find now",
    "f": "failed: nothing was published",
    "i": "interrupted: nothing was published",
    "k": "killed, or its machine stopped: nothing was published",
    "d": "degraded: the cache was not used all the time",
    "b": "had bad rows",
}


def print_history(
    runs: Sequence[PastRun],
    *,
    published: tuple[str, str] | None,
    last: int,
    console: Console | None = None,
) -> None:
    """Prints the `last` of `runs` in 80 columns, the newest at the end.

    `published` is the key of the run whose output readers find, which has a mark.
    """
    console = console or Console()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("started (UTC)", no_wrap=True)
    table.add_column("run", overflow="fold", ratio=1)
    for header in _COLUMNS:
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    used: set[str] = set()
    for run in runs[-last:]:
        marks = _marks(run, is_published=run.key == published)
        used.update(marks)
        table.add_row(
            escape(run.started_at[:16].replace("T", " ")), escape(run.run_id), *_numbers(run), marks
        )
    console.print(table)
    for run in runs[-last:]:
        if run.state != PUBLISHED:
            console.print(_ended(run), highlight=False, markup=False, soft_wrap=True)
    for mark in sorted(used):
        console.print(f"{mark}  {_MARKS[mark]}", highlight=False, markup=False)
    if len(runs) > last:
        console.print(
            f"{count_of(len(runs) - last, 'older run')}: --last {len(runs)}", highlight=False
        )


def _numbers(run: PastRun) -> tuple[str, ...]:
    if run.state != PUBLISHED:
        return "-", "-", "-", f"{run.total_seconds:,.1f}" if run.total_seconds else "-", "-"
    return (
        f"{run.rows_out:,}",
        "-" if run.hit_rate is None else f"{run.hit_rate:.1%}",
        f"{run.computed:,}",
        f"{run.total_seconds:,.1f}",
        "-" if run.seconds_saved is None else _seconds(run.seconds_saved),
    )


def _ended(run: PastRun) -> str:
    """How a run ended that published nothing, on one line."""
    how = [run.state if run.phase is None else f"{run.state} in phase {run.phase}"]
    how += [] if run.exit_code is None else [f"exit code {run.exit_code}"]
    said = " ".join(part for part in (run.code, run.message) if part)
    return f"{run.started_at[:16].replace('T', ' ')} {run.run_id}: {', '.join(how)}: {said}"


def _seconds(seconds: float) -> str:
    # Minus zero plus zero is zero.
    return f"{round(seconds, 1) + 0.0:,.1f}"


def _marks(run: PastRun, *, is_published: bool) -> str:
    has = {
        "*": is_published,
        "f": run.state == "failed",
        "i": run.state == "interrupted",
        "k": run.state == "died",
        "d": bool(run.degraded),
        "b": run.bad_row_count > 0,
    }
    return "".join(mark for mark in _MARKS if has[mark])
