"""`kvspark purge` removes entries from a cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from kvspark.cli.frame.group import CONF, with_sets
from kvspark.config.reading.load import load_job_config


@click.command(short_help="Remove entries from a cache.")
@CONF
@with_sets
@click.option("--input", "rows", type=click.Path(path_type=Path), help="Rows, one JSON a line.")
@click.option(
    "--subject", "subjects", type=click.Path(path_type=Path), help="Subjects, one a line."
)
@click.option("--model", type=click.Path(path_type=Path), help="A model: all of its stages.")
@click.option("--older-than", "age", metavar="AGE", help="Entries above an age: 30d, 12h, 90m.")
@click.option("--dry-run", is_flag=True, help="Say what it would free, and remove nothing.")
def purge(
    conf: Path,
    sets: Sequence[str],
    rows: Path | None,
    subjects: Path | None,
    model: Path | None,
    age: str | None,
    *,
    dry_run: bool,
) -> None:
    """Remove entries from the cache of CONF, and look whether they are gone.

    With `--input` and `--subject` rows cannot come back for a week, not from a run that is under way either; that
    takes a bit more than a minute. Outputs that were published are yours, and stay.
    """
    from kvspark.spark.jobs.purge import run_purge

    config = load_job_config(conf, sets=sets)
    run_purge(
        config,
        rows=rows,
        subjects=subjects,
        model=model,
        age=age,
        is_dry=dry_run,
        tell=click.echo,
    )
