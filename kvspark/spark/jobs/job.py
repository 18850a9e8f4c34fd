"""One run of a scoring job, from the lock to the published output."""

from __future__ import annotations

import logging
import platform
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from importlib.metadata import version
from typing import final

import pyspark
from pyspark.sql import SparkSession
from pyspark.sql.types import StructType

from kvspark._version import __version__
from kvspark.config.job import JobConfig
from kvspark.config.model import Way
from kvspark.errors import KvsparkError, WeightsUnavailableError
from kvspark.fault import fault_point
from kvspark.spark.badrows.first_bad_row import naming_the_row
from kvspark.spark.badrows.run_bad_rows import check_bad_rows
from kvspark.spark.jobs.planned import Planned, planned
from kvspark.spark.jobs.prepared_run import PreparedRun, prepared
from kvspark.spark.jobs.recorded import Record
from kvspark.spark.jobs.run_rows import rows_of_run
from kvspark.spark.output.output_check import Written
from kvspark.spark.publishing.interrupted import interrupted_run
from kvspark.spark.publishing.last_run import part_published, results_of
from kvspark.spark.publishing.open_target import open_target, refuse_own_rows
from kvspark.spark.publishing.output_columns import check_sort_by
from kvspark.spark.publishing.run_target import RunTarget, Staging
from kvspark.spark.runs.phases import Phases
from kvspark.spark.runs.registry_update import remember_seconds, take_stock
from kvspark.spark.runs.rows_done import RowsDone
from kvspark.spark.runs.run_report import (
    MOST_NAMES,
    REPORT_FOLDER,
    RunReport,
    known_seconds,
    seconds_saved,
    stage_reports,
)
from kvspark.spark.runs.tally import Tally
from kvspark.spark.scoring.bad_rows import BadRowOutput
from kvspark.spark.scoring.score import scored_table, task_spec
from kvspark.spark.session.failure import explained, expressions_of
from kvspark.spark.session.interrupt import telling
from kvspark.spark.sources.find_input import input_roots
from kvspark.stats import RunStats
from kvspark.wording import count_of

log = logging.getLogger(__name__)


def run_score(config: JobConfig, *, spark: SparkSession | None = None) -> RunReport:
    """The report of a run of `config`, once its output is published.

    Uses `spark`, else the session that is running, else a new one of the conf.

    Guarantees: until the output is published, and after any failure, the output of the run before
    is what readers find. A run of the same conf replaces what it published before. Zero
    rows publish an empty table. Trouble with the cache changes neither the rows nor the outcome.

    Raises:
        KvsparkError: see kvspark.errors; nothing was published.
        Interrupted: a signal that the command line handles; says whether the output is published.
    """
    run_id, phases = config.run_id(), Phases()
    record = Record(config, phases)
    with ExitStack() as locked:
        with record.before_lock():
            target = open_target(config, inputs=input_roots(config.input))
            locked.enter_context(target.lock(run_id))
        locked.enter_context(record.under_lock(target))
        locked.enter_context(telling(lambda: interrupted_run(phases.current, target)))
        fault_point("locked")
        removed = target.recover()
        if removed:
            log.info("removed what %s left beside %s", count_of(removed, "dead run"), target.url)
        target.check()  # of what was there before the lock nothing is known
        try:
            return _Run(config, target, run_id, phases).publish(spark)
        except KvsparkError:
            raise
        except Exception as exc:  # what Spark raises has no root of its own
            error = explained(exc, expressions_of(config))
            if error is None:
                raise
            raise error from exc


@final
class _Run:
    """One attempt, under the lock."""

    def __init__(self, config: JobConfig, target: RunTarget, run_id: str, phases: Phases) -> None:
        self._config = config
        self._target = target
        self._run_id = run_id
        self._phases = phases
        self._started_at = datetime.now(timezone.utc).isoformat(timespec="seconds")

    def publish(self, spark: SparkSession | None) -> RunReport:
        config, phases = self._config, self._phases
        with ExitStack() as held:
            made = prepared(config, phases, held, spark)
            refuse_own_rows(config, made.found.files)
            check_sort_by(config.output, made.source.df.schema)
            with phases.phase("plan") as told:
                run = planned(config, made, self._target.notes)
                told.append(run.told if made.cache is not None else "no cache")
            score = partial(self._score, made, run)
            try:
                return score(weights=config.model.weights)
            except Exception as exc:
                # A worker's error arrives as one of py4j's or Spark's own, with ours in its text.
                if not isinstance(explained(exc), WeightsUnavailableError):
                    raise
                log.warning("the store has lost the weights: once more, by broadcast")
                return score(weights="broadcast")

    def _score(self, made: PreparedRun, run: Planned, *, weights: Way) -> RunReport:
        source, model, columns = made.source, made.model, made.columns
        spark, compiled = source.df.sparkSession, run.compiled
        tally, staging = Tally(spark), self._target.begin(self._run_id)
        try:
            rows = rows_of_run(self._config, compiled.plan, source, columns, staging.bad_rows)
            done = RowsDone(spark, tally, source.rows)
            with self._phases.phase("score") as told, done.shown("score"):
                spec = task_spec(spark, compiled, made.cache, weights)
                table = scored_table(
                    rows.df, columns, model.bundle, spec, tally, rows.bad_rows, splits=rows.splits
                )
                with naming_the_row(rows.source, columns, model.bundle, spec, rows.bad_rows):
                    writer = staging.write(table)
                spec.shipped.destroy()
                told.append(tally.stats.line())
            fault_point("staged")
            check_bad_rows(self._config.input, tally.stats, source.rows)
            written = self._validate(staging, made, table.schema, rows.bad_rows)
            fault_point("validated")
            report = self._report(made, run, _told(tally, made.trouble), written)
            types = _types(table.schema, self._config.output.partition_by)
            report = replace(report, writer=writer, reader=rows.reader, partition_types=types)
            staging.report(report)
            fault_point("reported")
            with self._phases.phase("publish") as told:
                staging.publish()
                told.append(self._target.url)
            if made.cache is not None:
                take_stock(model.stages, tally.stats, made.cache)
                if made.sample.unchecked is None:
                    remember_seconds(compiled, tally.stats, made.cache, made.sample.threads)
        finally:
            staging.discard()
        return replace(report, seconds=dict(self._phases.seconds))

    def _validate(
        self, staging: Staging, made: PreparedRun, schema: StructType, bad_rows: BadRowOutput
    ) -> Written:
        with self._phases.phase("validate") as told:
            written = staging.validated(schema, made.source.rows, bad_rows, made.found.changed)
            made.found.check_unchanged()
            counts = {"quarantined": written.quarantined, "replaced": written.replaced}
            counts["removed"] = written.removed
            aside = "".join(f", {count:,} {became}" for became, count in counts.items() if count)
            told.append(
                f"{count_of(written.rows, 'row')} in {count_of(written.files, 'file')}{aside}"
            )
        return written

    def _report(
        self, made: PreparedRun, run: Planned, stats: RunStats, written: Written
    ) -> RunReport:
        config, source, model = self._config, made.source, made.model
        known = known_seconds(self._target.notes, REPORT_FOLDER)
        stages = stage_reports(model.stages, stats, known)
        return RunReport(
            run_id=self._run_id,
            name=config.run.name,
            logical_date=config.run.logical_date,
            started_at=self._started_at,
            model=model.name,
            fingerprint=model.fingerprint.hex(),
            output=self._target.url,
            inputs=config.input.named,
            rows_in=source.rows,
            rows_out=written.rows,
            input_files=len(made.found.files),
            input_version=made.found.version,
            input_since=made.found.since,
            input_part=part_published(config, made.found.part),
            results_digest=results_of(config, model.fingerprint),
            input_digest=made.found.digest,
            input_names=() if made.found.version else tuple(made.found.files[:MOST_NAMES]),
            empty_input_files=made.found.empty_files,
            output_files=written.files,
            output_bytes=written.size_bytes,
            stages=stages,
            stats=stats,
            cache=None if config.cache is None else config.cache.url,
            seconds={**self._phases.seconds, "publish": 0.0},
            seconds_saved=None if config.cache is None else seconds_saved(stages, stats),
            versions=_versions(),
            on_bad_row=config.input.on_bad_row,
            rows_quarantined=written.quarantined,
            rows_replaced=written.replaced,
            rows_removed=written.removed,
            lossy=run.compiled.plan.lossy,
            plan=run.table,
        )


def _types(schema: StructType, columns: Sequence[str]) -> dict[str, str]:
    return {name: schema[name].dataType.simpleString() for name in columns}


def _told(tally: Tally, trouble: str | None) -> RunStats:
    stats = tally.stats
    return replace(stats, degraded=stats.degraded | {trouble}) if trouble else stats


def _versions() -> dict[str, str]:
    return {
        "kvspark": __version__,
        "python": platform.python_version(),
        "spark": pyspark.__version__,
        "torch": version("torch"),
    }
