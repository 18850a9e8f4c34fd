"""`kvspark warm` copies entries of the cold tier to the store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from kvspark.cli.frame.group import CONF, with_sets
from kvspark.config.reading.load import load_job_config


@click.command(short_help="Lift entries from the cold tier into the store.")
@CONF
@with_sets
@click.option("--bytes", "most", type=click.IntRange(min=1), help="Memory that may be filled.")
def warm(conf: Path, sets: Sequence[str], most: int | None) -> None:
    """Copy entries of CONF's namespace from its cold tier into the store, the newest first.

    As far as nine tenths of the servers' maxmemory go; where the user may not ask for that, `--bytes` or
    cache.budget_bytes says how far.
    """
    from kvspark.spark.jobs.warm import run_warm

    click.echo(run_warm(load_job_config(conf, sets=sets), most_bytes=most))
