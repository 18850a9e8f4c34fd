"""`kvspark.run`: one job from Python, with the promises of spark-submit and none of its exits."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

from pyspark import SparkContext
from pyspark.sql import SparkSession

from kvspark.config.job import JobConfig, SparkConfig
from kvspark.config.reading.load import job_config
from kvspark.errors import UsageError
from kvspark.spark.jobs.job import run_score
from kvspark.spark.runs.run_report import RunReport
from kvspark.spark.session.cancel import cancelling
from kvspark.spark.session.connect import is_connect

log = logging.getLogger(__name__)


def run(
    conf: str | Path | Mapping[str, Any] | JobConfig,
    *,
    sets: Sequence[str] = (),
    run_date: str | date | None = None,
    spark: SparkSession | None = None,
) -> RunReport:
    """The report of one run of the job `conf`, once its output is published: `kvspark score` from Python.

    conf: a conf file, a dict with its keys, or a `JobConfig`. The environment (`KVSPARK__A__B`) and `sets`
        (`"a.b=value"`, as `--set`) replace values of the first two; `run_date` is the day of `{{ run.date }}`.
        Relative paths begin in the folder of a conf file, and in the working directory where there is none.
    spark: the session to use; else the active one, else one of the conf's `spark` section, which is stopped at
        the end. What that section asks of a session that runs already is named in the log, and not applied.

    Guarantees: as `kvspark score`. Until the output is published, and after any failure or interrupt, readers find
    the output of the run before. Nothing exits the process: Ctrl-C ends Spark's jobs and is a KeyboardInterrupt.

    Raises:
        KvsparkError: see kvspark.errors; its `exit_code` is that of the command. Nothing was published, except
            where CacheRequiredError says that the output is complete.
    """
    config = job_config(conf, sets=sets, run_date=run_date)
    with _session(config, spark) as session, cancelling():
        report = run_score(config, spark=session)
    report.check_cache_was_used(is_required=config.run.require_cache)
    return report


@contextmanager
def _session(config: JobConfig, given: SparkSession | None) -> Iterator[SparkSession | None]:
    """The session to use; None where there is none yet. What the job has started is stopped at the end."""
    running = given or _running()
    if running is None:
        try:
            # None: what is wrong with model, columns or input is said before a session is started.
            yield None
        finally:
            _stop()
        return
    if is_connect(running):
        raise UsageError(
            "kvspark.run needs a session of this process and got one of Spark Connect; use kvspark.score there, or "
            "submit the job with kvspark score; nothing was written"
        )
    _tell_unapplied(config.spark, running)
    yield running


def _running() -> SparkSession | None:
    """The session of this process, whichever thread has made it; None without one."""
    active = SparkSession.getActiveSession()
    if active is None and SparkContext._active_spark_context is not None:  # noqa: SLF001 - in public, it would be started
        return SparkSession.builder.getOrCreate()
    return active


def _stop() -> None:
    started = SparkSession.getActiveSession()
    if started is not None:
        started.stop()


def _tell_unapplied(config: SparkConfig, running: SparkSession) -> None:
    asked = {**config.conf, **({} if config.master is None else {"spark.master": config.master})}
    has = dict(running.sparkContext.getConf().getAll())
    other = sorted(key for key, value in asked.items() if has.get(key) != value)
    if other:
        log.warning(
            "the job runs in the session that is active, without its own %s; stop that session for them to hold",
            ", ".join(other),
        )
