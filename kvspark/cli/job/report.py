"""`kvspark report` shows the last run of an output and its history."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from kvspark.cli.frame.group import with_sets
from kvspark.config.reading.load import load_job_config
from kvspark.errors import UsageError


@click.command(short_help="Show the last run of an output, and those before.")
@click.argument("place", metavar="CONF|FOLDER")
@with_sets
@click.option(
    "--last", type=click.IntRange(min=1), default=10, show_default=True, help="Runs of the history."
)
@click.option("--json", "as_json", is_flag=True, help="Both as one JSON value.")
def report(place: str, sets: Sequence[str], last: int, *, as_json: bool) -> None:
    """Show the last run that published to an output, and those before it.

    The output is a folder, one in an object store or in HDFS too, or the output.path of a conf. Runs that failed, were interrupted or died are in
    the history too. `kvspark explain FIELD` says what a field of the JSON means.
    """
    from kvspark.report.past_runs import print_history
    from kvspark.report.terminal import print_report
    from kvspark.spark.runs.history import read_history
    from kvspark.spark.runs.run_report import REPORT_FOLDER, read_report

    with _output_of(place, sets) as output:
        newest = read_report(output / REPORT_FOLDER)
        runs = read_history(output)
    if newest is None and not runs:
        raise UsageError(
            f"{place} has no report of a run ({REPORT_FOLDER}/run.json); name a folder to which a run published "
            "Parquet files, or the conf of its job, also where that publishes tables of Delta or Iceberg"
        )
    if as_json:
        history = [run.to_json() for run in runs[-last:]]
        told = None if newest is None else newest.to_json()
        click.echo(json.dumps({"run": told, "history": history}, indent=2))
        return
    if newest is None:
        click.echo(f"{place}: no run has published yet")
        print_history(runs, published=None, last=last)
        return
    print_report(newest)
    print_history(runs, published=(newest.started_at, newest.run_id), last=last)


@contextmanager
def _output_of(place: str, sets: Sequence[str]) -> Iterator[Path]:
    """The folder `place`, also one that no run has made yet, or the output of the conf `place`."""
    from kvspark.spark.publishing.brought_notes import brought_notes
    from kvspark.spark.publishing.open_publisher import publisher_at, publisher_of
    from kvspark.spark.runs.unpublished import beside
    from kvspark.spark.tables.paths import local_path
    from kvspark.table.objects.storage import is_remote

    if is_remote(place):
        with brought_notes(publisher_at(place)) as notes:
            yield notes
        return
    folder = Path(place)
    if folder.is_dir() or (not folder.exists() and beside(folder).is_dir()):
        yield folder
        return
    if not folder.exists():
        raise UsageError(
            f"{place} does not exist; name the folder that a run published, or the conf of its job"
        )
    config = load_job_config(folder, sets=sets)
    publisher = publisher_of(config)
    if publisher is None:
        yield local_path(config.output.path, what="output path")
        return
    with brought_notes(publisher) as notes:
        yield notes
