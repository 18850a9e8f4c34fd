"""`kvspark plan` shows what a job's cache does, and why, before the job runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from kvspark.cli.frame.group import CONF, with_sets
from kvspark.config.reading.load import load_job_config
from kvspark.spark.session.java import check_java


@click.command(short_help="Show which stages of a job are cached, and why.")
@CONF
@with_sets
@click.option("--json", "as_json", is_flag=True, help="The table as one JSON value.")
def plan(conf: Path, sets: Sequence[str], *, as_json: bool) -> None:
    """Measure what the job that the file CONF names takes, stage by stage, and show what its cache would do.

    Computes some of its rows, looks them up, and tries the store with random entries that are kept for a minute. No
    output is written. Columns are microseconds of a worker for one row; `hits` are those that are expected, and
    `pays from` is the hit rate from which caching the stage makes this run faster. Of a store that is full, what
    is there is looked up alone. What the conf or the rule decides for such a run is as they say, whatever it costs.
    """
    from kvspark.report.plan_table import print_plan
    from kvspark.spark.jobs.plan_job import plan_job

    config = load_job_config(conf, sets=sets)
    check_java(config.spark.master)
    table = plan_job(config)
    if as_json:
        click.echo(json.dumps(table.to_json(), indent=2))
    else:
        print_plan(table)
