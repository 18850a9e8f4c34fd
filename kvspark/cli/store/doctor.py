"""`kvspark doctor` looks at a machine, its secrets and a store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from kvspark.cli.frame.group import CONF, with_sets
from kvspark.config.reading.load import load_job_config
from kvspark.errors import UsageError

_UNWELL = 1
"""What `kvspark doctor` exits with when something is bad."""


@click.command(short_help="Look at this machine, the secrets and the store.")
@CONF
@with_sets
@click.option("--as", "user", help="A user of the server who may look where the job's may not.")
@click.option("--password-env", help="The environment variable with that user's password.")
@click.option("--password-file", help="The file with that user's password.")
@click.option("--strict", is_flag=True, help="Exit with 1 for a warning too.")
def doctor(
    conf: Path,
    sets: Sequence[str],
    user: str | None,
    password_env: str | None,
    password_file: str | None,
    *,
    strict: bool,
) -> int:
    """Look at this machine, the secrets and the store of CONF, and say what to do.

    A line for each finding: ok, warn (costs speed or safety), bad (a job fails, leaks or caches
    nothing), unseen (the user may not look). Exits with 1 if something is bad, else with 0.
    """
    from kvspark.cache.doctor.access import Visitor
    from kvspark.config.section.secret import resolve_secret
    from kvspark.report.findings import print_findings
    from kvspark.spark.jobs.doctor import examine

    config = load_job_config(conf, sets=sets)
    password = resolve_secret(env=password_env, file=password_file)
    if user is None and password is not None:
        raise UsageError("a password is named and no user; write --as USER")
    counts = print_findings(examine(config, None if user is None else Visitor(user, password)))
    return _UNWELL if counts["bad"] or (strict and counts["warn"]) else 0
