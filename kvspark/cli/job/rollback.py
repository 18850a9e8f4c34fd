"""`kvspark rollback` goes back to an output that was replaced."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from kvspark.cli.frame.group import CONF, with_sets
from kvspark.config.reading.load import load_job_config


@click.command(short_help="Go back to an output that was replaced.")
@CONF
@with_sets
@click.option("--to", metavar="RUN_ID", help="Go back to this run's output, not to the last one.")
@click.option("--list", "lists", is_flag=True, help="Say what can be restored, and change nothing.")
def rollback(conf: Path, sets: Sequence[str], to: str | None, *, lists: bool) -> None:
    """Make the output that was replaced last CONF's output again, in one step.

    The output whose place it takes is kept in turn, so a second rollback goes forward again. How many
    are kept says output.keep; `--list` says which.
    """
    from kvspark.spark.jobs.rollback import run_rollback, versions_of

    config = load_job_config(conf, sets=sets)
    for line in versions_of(config) if lists else [run_rollback(config, to=to)]:
        click.echo(line)
