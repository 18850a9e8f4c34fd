"""The group of all commands, and what several of them take."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import click

from kvspark import __version__

CONF = click.argument("conf", type=click.Path(path_type=Path))
"""The conf of a job."""

SETS = click.option(
    "--set", "sets", metavar="A.B=VALUE", multiple=True, help="Replace a value of CONF."
)
"""Values that replace some of the conf's."""


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
