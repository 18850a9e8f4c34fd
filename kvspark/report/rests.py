"""What a run's report says of stages whose store was left alone: how many rows, since when, and why."""

from __future__ import annotations

from datetime import datetime

from kvspark.spark.runs.run_report import RunReport


def rest_lines(report: RunReport) -> list[str]:
    """A line for each stage of which some rows rested."""
    return [
        f"{stage.rested:,} rows of {name} were neither looked up nor written{_when_and_why(report, name)} (plan.watch)"
        for name, stage in report.stats.stages.items()
        if stage.rested
    ]


def _when_and_why(report: RunReport, name: str) -> str:
    rest = report.stats.rests.get(name)
    if rest is None:  # of an older version
        return ": computing them costs less"
    since = datetime.fromisoformat(rest.since)
    after_s = (since - datetime.fromisoformat(report.started_at)).total_seconds()
    # A worker that served a run before may have left the store alone since then.
    when = (
        f"{after_s:,.0f} s after the start, at {since:%H:%M:%S} UTC" if after_s > 0 else "the start"
    )
    return f", from {when} on: {rest.why}"
