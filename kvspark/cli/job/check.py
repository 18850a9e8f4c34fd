"""`kvspark check` is the dry run of a job."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kvspark.cli.frame.group import CONF, with_sets
from kvspark.config.reading.load import load_job_config
from kvspark.errors import UsageError
from kvspark.spark.session.java import check_java

if TYPE_CHECKING:
    from kvspark.config.job import JobConfig
    from kvspark.spark.check.check import Looked


@click.command(short_help="Try a job and write nothing: the dry run.")
@CONF
@with_sets
def check(conf: Path, sets: Sequence[str]) -> int:
    """Try the job that the file CONF names, and write nothing: no output, no entry, no lock.

    Opens model, input, cache, keys and output, tells all faults that can be found, computes the first rows beside
    the model's own runtime, and says how long all rows take. Exits with 0 if the job would run, else with
    the code that it would fail with first.
    """
    from kvspark.report.findings import print_findings

    config = load_job_config(conf, sets=sets)
    looked: list[Looked] = []

    def found() -> Iterator[Looked]:
        for each in _looked(config):
            looked.append(each)
            yield each

    print_findings(each.finding for each in found())
    return next((each.error.exit_code for each in looked if each.error is not None), 0)


def _looked(config: JobConfig) -> Iterator[Looked]:
    from kvspark.spark.check.check import check_job, fault

    has_java = True
    try:
        check_java(config.spark.master)
    except UsageError as error:
        has_java = False
        yield fault("Java", error)
    yield from check_job(config, opens_session=has_java)
