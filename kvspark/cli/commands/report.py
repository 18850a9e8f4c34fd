"""`kvspark report` shows the last run of an output and its history."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from kvspark.cli.frame.group import with_sets
from kvspark.config.reading.load import load_job_config
from kvspark.errors import UsageError


@click.command(short_help="Show the last run of an output, and those before.")
@click.argument("place", metavar="CONF|FOLDER", type=click.Path(path_type=Path))
@with_sets
@click.option(
    "--last", type=click.IntRange(min=1), default=10, show_default=True, help="Runs of the history."
)
@click.option("--json", "as_json", is_flag=True, help="Both as one JSON value.")
def report(place: Path, sets: Sequence[str], last: int, *, as_json: bool) -> None:
    """Show the last run that published to an output, and those before it.

    The output is a folder, or the output.path of a conf. A run that failed published nothing and is not
    listed. `kvspark explain FIELD` says what a field of the JSON means.
    """
    from kvspark.report.past_runs import print_history
    from kvspark.report.terminal import print_report
    from kvspark.spark.runs.history import read_history
    from kvspark.spark.runs.run_report import REPORT_FOLDER, read_report

    output = place if place.is_dir() else _output_of(place, sets)
    newest = read_report(output / REPORT_FOLDER)
    if newest is None:
        raise UsageError(
            f"{output} has no report of a run ({REPORT_FOLDER}/run.json); name the folder that a run "
            "published, or its conf"
        )
    runs = read_history(output)
    if as_json:
        history = [run.to_json() for run in runs[-last:]]
        click.echo(json.dumps({"run": newest.to_json(), "history": history}, indent=2))
        return
    print_report(newest)
    print_history(runs, published=(newest.started_at, newest.run_id), last=last)


def _output_of(conf: Path, sets: Sequence[str]) -> Path:
    from kvspark.spark.tables.paths import local_path

    return local_path(load_job_config(conf, sets=sets).output.path, what="output path")
