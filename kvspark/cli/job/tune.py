"""`kvspark tune` searches the settings with which a job is fastest."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import click

from kvspark.cli.frame.group import CONF, with_sets
from kvspark.config.reading.load import load_job_config
from kvspark.spark.session.interrupt import telling
from kvspark.spark.session.java import check_java


@click.command(short_help="Search the settings with which a job is fastest.")
@CONF
@with_sets
@click.option(
    "--trials",
    type=click.IntRange(min=1),
    default=24,
    show_default=True,
    help="The most candidates that are tried.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=300.0,
    show_default=True,
    help="After these no trial begins; the turns at the end are part of them.",
)
@click.option("--seed", default=0, show_default=True, help="Of the sample and of the search.")
@click.option(
    "--allow-other-bits",
    is_flag=True,
    help="Also try what changes results in their last bits, so that all entries are computed anew: shapes of calls, "
    "dtype, rounding codecs.",
)
@click.option(
    "--output", type=click.Path(path_type=Path), help="The file to write; CONF.tuned.yaml without."
)
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
@click.option("--json", "as_json", is_flag=True, help="Print all of it as JSON at the end.")
def tune(
    conf: Path,
    sets: Sequence[str],
    trials: int,
    seconds: float,
    seed: int,
    output: Path | None,
    *,
    allow_other_bits: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Try settings of the job that the file CONF names on a sample of its rows, and write the best ones to a new file.

    Threads, rows of an Arrow batch, codecs and the overlap with the store; with --allow-other-bits also what changes
    results in their last bits. The job's output and its entries are not touched. Where nothing is faster than CONF by
    more than the noise, nothing is written.
    """
    from kvspark.config.writing.tuned_conf import check_free, tuned_path, write_tuned
    from kvspark.tune.proposals import check_optuna

    config = load_job_config(conf, sets=sets)
    path = output or tuned_path(conf)
    check_free(path, conf, is_forced=force)
    check_optuna()
    check_java(config.spark.master)

    with telling(lambda: "interrupted while settings were tried; nothing was written"):
        from kvspark.report.tuning import TuningPrinter, changes, tuning_json, verdict
        from kvspark.spark.tuning.tune import Limits, tune_job

        printer = TuningPrinter(sys.stderr if as_json else sys.stdout)
        limits = Limits(trials, seconds, seed, allow_other_bits)
        setting, outcome = tune_job(conf, sets, limits, printer)
        said = [*verdict(outcome), *(changes(outcome) if outcome.is_better else [])]
        if outcome.is_better and outcome.best is not None:
            told = f"kvspark tune, {date.today()}, of {conf.name}: {setting.rows:,} rows on {setting.cores} cores"  # noqa: DTZ011 - a person's day
            write_tuned(conf, path, outcome.best.sets, [told, *said])
    written = str(path) if outcome.is_better else None
    for line in said:
        click.echo(line, err=as_json)
    click.echo(f"written: {written}" if written else "nothing was written", err=as_json)
    if as_json:
        click.echo(json.dumps(tuning_json(setting, outcome, written), indent=2))
