"""The group of all commands, and what several of them take."""

from __future__ import annotations

import functools
import json
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import click

from kvspark._version import __version__
from kvspark.config.placeholders import checked_day

_Result = TypeVar("_Result")

CONF = click.argument("conf", type=click.Path(path_type=Path))
"""The conf of a job."""


def with_sets(command: Callable[..., _Result]) -> Callable[..., _Result]:
    """`command` with what replaces values of CONF, as `sets`: `--set`, and `--run-date` behind it."""

    @functools.wraps(command)
    def called(*args: object, sets: Sequence[str], run_date: str | None, **rest: object) -> _Result:
        dated = (
            []
            if run_date is None
            else [f"run.logical_date={json.dumps(checked_day(run_date, '--run-date'))}"]
        )
        return command(*args, sets=[*sets, *dated], **rest)

    dated = click.option(
        "--run-date", metavar="DAY", help="The day of {{ run.date }} in CONF, as 2026-01-31."
    )
    replaced = click.option(
        "--set", "sets", metavar="A.B=VALUE", multiple=True, help="Replace a value of CONF."
    )
    return replaced(dated(called))


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="kvspark")
@click.option("--debug", is_flag=True, help="Log what happens, with the traceback of an error.")
def commands(debug: bool) -> None:  # noqa: FBT001 - click passes every option by keyword.
    """Batch inference on Apache Spark that never computes the same thing twice."""
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.WARNING,
        format="%(asctime)s %(levelname)s %(message)s",
        stream=sys.stderr,
        force=True,
    )
    # A line for each phase of a run: cron and Airflow keep them, a person sees that it goes on.
    logging.getLogger("kvspark").setLevel(logging.DEBUG if debug else logging.INFO)
    if debug:
        # Spark's gateway logs every call to the JVM at this level.
        logging.getLogger("py4j").setLevel(logging.INFO)
