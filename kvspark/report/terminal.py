"""A run's report as a table on a terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kvspark.spark.quarantine import QUARANTINE_FOLDER
from kvspark.spark.run_bad_rows import counted
from kvspark.spark.run_report import RunReport
from kvspark.stats import StageStats

_COUNTS = ("rows", "lookups", "hits", "hit rate", "duplicates", "computed", "seconds")


def print_report(report: RunReport, console: Console | None = None) -> None:
    """Prints what the run computed and where its output is; on standard output by default."""
    console = console or Console()
    console.print(
        f"run [bold]{escape(report.run_id)}[/bold] of {escape(report.name)}", highlight=False
    )
    console.print(_stages(report))
    for line in _lines(report):
        console.print(line, highlight=False, soft_wrap=True)


def _stages(report: RunReport) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("stage")
    for header in _COUNTS:
        table.add_column(header, justify="right", no_wrap=True)
    for stage in report.stages:
        counted = report.stats.stages.get(stage.name, StageStats())
        table.add_row(
            escape(stage.name),
            f"{counted.rows:,}",
            f"{counted.lookups:,}",
            f"{counted.hits:,}",
            f"{counted.hits / counted.lookups:.1%}" if counted.lookups else "-",
            f"{counted.duplicates:,}",
            f"{counted.computed:,}",
            f"{counted.seconds_compute:.1f}",
        )
    return table


def _lines(report: RunReport) -> list[str]:
    rate = report.rows_in / report.total_seconds if report.total_seconds else 0.0
    rows = f"{report.rows_in:,} rows in, {report.rows_out:,} rows out"
    lines = [f"{rows}, {report.total_seconds:.1f} s ({rate:,.0f} rows/s)"]
    if report.seconds_saved is not None:
        saved = report.seconds_saved
        lines.append(
            f"the cache saved about {saved:.1f} s of computing"
            if saved >= 0
            else f"the cache cost about {-saved:.1f} s more than it saved"
        )
    leased = sum(stage.leased for stage in report.stats.stages.values())
    if leased:
        waited_s = sum(stage.seconds_waited for stage in report.stats.stages.values())
        lines.append(f"{leased:,} rows came from another worker ({waited_s:.1f} s waited)")
    turned_away = sum(stage.turned_away for stage in report.stats.stages.values())
    if turned_away:
        lines.append(f"{turned_away:,} computed rows were not written: they were not admitted")
    if report.lossy:
        codecs = ", ".join(f"{stage} {codec}" for stage, codec in report.lossy.items())
        lines.append(f"[yellow]not exact[/yellow]: rounded on request ({escape(codecs)})")
    if report.stats.bad_row_count:
        lines.append(_bad_rows(report))
    if report.empty_input_files:
        lines.append(f"{report.empty_input_files:,} input files of zero bytes were skipped")
    errors = report.stats.cache_errors
    if errors:
        counts = ", ".join(f"{reason} {count:,}" for reason, count in sorted(errors.items()))
        lines.append(f"cache errors: {escape(counts)}")
    if report.stats.degraded:
        reasons = ", ".join(sorted(report.stats.degraded))
        lines.append(
            f"[yellow]degraded[/yellow]: cache not always used ({escape(reasons)}); same rows"
        )
    lines.append(f"output: {escape(report.output)} ({_size(report.output_bytes)})")
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


def _size(size_bytes: int) -> str:
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:,.0f} {unit}" if unit == "B" else f"{size:,.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} GiB"
