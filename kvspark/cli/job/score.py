"""`kvspark score` scores a table and publishes the result."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from kvspark.cli.frame.closed_pipe import ignoring_a_closed_pipe
from kvspark.cli.frame.group import CONF, with_sets
from kvspark.config.job import JobConfig
from kvspark.config.reading.load import load_job_config
from kvspark.errors import KvsparkError
from kvspark.spark.session.interrupt import telling
from kvspark.spark.session.java import check_java


@click.command(short_help="Score a table and publish the result.")
@CONF
@with_sets
@click.option("--run-id", help="Names the run; a run of the same id is replaced.")
@click.option("--require-cache", is_flag=True, help="Exit with 69 if the cache was not used.")
def score(
    conf: Path,
    sets: Sequence[str],
    run_id: str | None,
    *,
    require_cache: bool,
) -> None:
    """Score the table that the file CONF names, and publish the result."""
    # JSON text is YAML text in quotes: a run id of digits stays what it is.
    chosen = [f"run.id={json.dumps(run_id)}"] if run_id is not None else []
    required = ["run.require_cache=true"] if require_cache else []
    config = load_job_config(conf, sets=[*sets, *chosen, *required])
    _check_java(config)

    with telling(lambda: "interrupted before stage open; nothing was published"):
        from kvspark.report.terminal import print_report
        from kvspark.spark.jobs.job import run_score

        report = run_score(config)
    with (
        telling(lambda: "interrupted after stage publish; the new output is published"),
        ignoring_a_closed_pipe(),
    ):
        print_report(report)
    report.check_cache_was_used(is_required=config.run.require_cache)


def _check_java(config: JobConfig) -> None:
    """Looks for Java before anything that takes seconds is imported; its absence is in the history too."""
    try:
        check_java(config.spark.master)
    except KvsparkError:
        from kvspark.spark.jobs.recorded import Record
        from kvspark.spark.runs.phases import Phases

        with Record(config, Phases()).before_lock():
            raise
