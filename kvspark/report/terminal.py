"""A run's report on a terminal: a table of its stages, and lines that say what happened."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from kvspark.report.advice import told_cache
from kvspark.report.lines import say, size
from kvspark.report.plan_table import outcome_lines
from kvspark.report.rests import rest_lines
from kvspark.spark.badrows.quarantine import QUARANTINE_FOLDER
from kvspark.spark.badrows.run_bad_rows import counted
from kvspark.spark.runs.run_report import RunReport
from kvspark.stats import StageStats
from kvspark.wording import count_of

_UNBOUNDED = 1000
_COUNTS = ("rows", "lookups", "hits", "hit rate", "duplicates", "computed", "seconds")


def print_report(report: RunReport, console: Console | None = None) -> None:
    """Prints what the run computed and where its output is; on standard output by default.

    Lines are broken between words, so that 80 columns are enough; a path is never broken.
    """
    console = console or Console()
    say(console, f"run [bold]{escape(report.run_id)}[/bold] of {escape(report.name)}")
    table = _stages(report, is_short=False)
    wide = console.options.update(width=_UNBOUNDED)
    if Measurement.get(console, wide, table).maximum > console.width:
        table = _stages(report, is_short=True)
    console.print(table)
    for line in _lines(report):
        say(console, line)
    # Never broken: it is what one looks for in a log.
    output = f"output: {escape(report.output)} ({size(report.output_bytes)})"
    console.print(output, highlight=False, soft_wrap=True)


def _stages(report: RunReport, *, is_short: bool) -> Table:
    count = _short if is_short else "{:,}".format
    space = (0, 1, 0, 0) if is_short else (0, 1)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=space)
    table.add_column("stage", overflow="fold")
    for header in _COUNTS:
        table.add_column(header, justify="right", no_wrap=True)
    for stage in report.stages:
        counted = report.stats.stages.get(stage.name, StageStats())
        table.add_row(
            escape(stage.name),
            count(counted.rows),
            count(counted.lookups),
            count(counted.hits),
            f"{counted.hits / counted.lookups:.1%}" if counted.lookups else "-",
            count(counted.duplicates),
            count(counted.computed),
            f"{counted.seconds_compute:.1f}",
        )
    return table


def _lines(report: RunReport) -> list[str]:
    rate = report.rows_in / report.total_seconds if report.total_seconds else 0.0
    rows = f"{count_of(report.rows_in, 'row')} in, {count_of(report.rows_out, 'row')} out"
    lines = [f"{rows}, {report.total_seconds:.1f} s ({rate:,.0f} rows/s)"]
    if report.rows_replaced or report.rows_removed:
        replaced = count_of(report.rows_replaced, "row")
        lines.append(f"of the rows there, {replaced} replaced and {report.rows_removed:,} removed")
    lines += [escape(line) for line in told_cache(report)]
    if report.plan is not None:
        lines += [escape(line) for line in outcome_lines(report.plan, report.stats)]
    lines += _apart(report)
    if report.lossy:
        codecs = ", ".join(f"{stage} {codec}" for stage, codec in report.lossy.items())
        lines.append(f"[yellow]not exact[/yellow]: rounded on request ({escape(codecs)})")
    if report.stats.bad_row_count:
        lines.append(_bad_rows(report))
    if report.empty_input_files:
        lines.append(f"skipped {count_of(report.empty_input_files, 'input file')} of zero bytes")
    errors = report.stats.cache_errors
    if errors:
        counts = ", ".join(f"{reason} {count:,}" for reason, count in sorted(errors.items()))
        worst = max(sorted(errors), key=lambda reason: errors[reason])
        lines.append(f"cache errors: {escape(counts)} (kvspark explain {escape(worst)})")
    if report.stats.degraded:
        reasons = ", ".join(sorted(report.stats.degraded))
        lines.append(
            f"[yellow]degraded[/yellow]: cache not always used ({escape(reasons)}); same rows"
        )
    return lines


def _apart(report: RunReport) -> list[str]:
    """Rows that went another way than look-up, computation, insert."""
    stages, lines = report.stats.stages, []
    leased = sum(stage.leased for stage in stages.values())
    if leased:
        waited_s = sum(stage.seconds_waited for stage in stages.values())
        lines.append(
            f"{count_of(leased, 'row')} came from another worker ({waited_s:.1f} s waited)"
        )
    lines += [escape(line) for line in rest_lines(report)]
    turned_away = sum(stage.turned_away for stage in stages.values())
    if turned_away:
        lines.append(
            f"{turned_away:,} computed rows were not written: they were not admitted "
            "(cache.budget_bytes)"
        )
    return lines


def _bad_rows(report: RunReport) -> str:
    count = report.stats.bad_row_count
    where = (
        f"left out, see {report.output}/{QUARANTINE_FOLDER}"
        if report.rows_quarantined
        else "their outputs are null"
    )
    noun = "bad row" if count == 1 else "bad rows"
    return f"[yellow]{count:,} {noun}[/yellow]: {escape(counted(report.stats))}; {escape(where)}"


def _short(count: int) -> str:
    """A large number in few places: 412.3M."""
    for unit, one in (("G", 1e9), ("M", 1e6)):
        if count >= one:
            return f"{count / one:.1f}{unit}"
    return f"{count:,}"
