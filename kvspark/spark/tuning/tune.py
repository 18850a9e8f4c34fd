"""`kvspark tune`: a job's settings, tried in Spark on a sample of its own rows; nothing of the job is written."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, final

from pyspark.sql import SparkSession

from kvspark.config.job import JobConfig
from kvspark.config.reading.load import load_job_config
from kvspark.config.writing.as_sets import as_sets
from kvspark.errors import DataError
from kvspark.infer.resolve.compiled_plan import CompiledPlan
from kvspark.spark.jobs.planned import planned
from kvspark.spark.jobs.prepared_run import PreparedRun, prepared
from kvspark.spark.publishing.open_target import open_target
from kvspark.spark.runs.phases import Phases
from kvspark.spark.sources.find_input import input_roots
from kvspark.spark.tuning.options import Job, space_of
from kvspark.spark.tuning.sample import sample_of
from kvspark.spark.tuning.spark_measure import SparkMeasure
from kvspark.spark.tuning.trial_session import (
    ARROW_ROWS,
    DEFAULT_ARROW_ROWS,
    TASK_CPUS,
    TrialSessions,
)
from kvspark.spark.tuning.trial_store import TrialStore
from kvspark.tune.proposals import check_optuna
from kvspark.tune.space import Space
from kvspark.tune.tuning import Listener, Outcome, Tuning

log = logging.getLogger(__name__)

PILOT_ROWS = 64
"""With which a model that takes a second for a row is tried in a minute."""
MOST_ROWS = 400_000
WARM_UP_ROWS = 256
"""That open what a worker opens: weights, tokenizers, connections."""
LEAST_S = 1.0
"""Of each part of a measurement: Spark's own start of a job takes a tenth of that."""
LONG_S = 8.0
"""Of all parts of it: what a short one of them adds or saves is then little beside the others."""
_MOST_REPEATS = 4
_GROWTH = 64
_STEPS = 4
"""Samples that are drawn until one is large enough."""
_SPARK_ROW_S = 8e-6
"""That a narrow row takes on its way through Spark and a worker, about."""


@final
@dataclass(frozen=True, slots=True)
class Limits:
    """How long is searched, and where."""

    trials: int
    seconds: float
    seed: int
    allows_other_bits: bool


@final
@dataclass(frozen=True, slots=True)
class Setting:
    """What is measured, as it is told before the first trial."""

    space: Space
    rows: int
    """Of the sample."""
    of_rows: int
    repeats: int
    master: str
    cores: int
    store: str | None
    """Where entries of trials go; None where all is computed."""
    left_out: str | None
    """Why the store is not used although the conf has one."""


class Watcher(Listener, Protocol):
    """Who also hears what is searched."""

    def opened(self, setting: Setting) -> None:
        """All is open, and the first trial begins."""


def tune_job(
    conf: Path, sets: Sequence[str], limits: Limits, watcher: Watcher
) -> tuple[Setting, Outcome]:
    """What was searched and what came of it, for the job of the file `conf` with `sets`.

    Reads the input as a run would. Writes no output, no lock, no report, and no entry that the job would find.

    Raises:
        UsageError: Optuna is missing, or as `open_parts`.
        DataError: there is no row, or none that can be scored.
        KvsparkError: the job as it is would fail with it.
    """
    check_optuna()
    config = load_job_config(conf, sets=sets)
    target = open_target(config, inputs=input_roots(config.input))
    with ExitStack() as held:
        store = (
            None if config.cache is None else held.enter_context(closing(TrialStore(config.cache)))
        )
        if store is not None:
            config = config.model_copy(update={"cache": store.config})
        made, sessions = _opened(config, held)
        compiled = planned(config, made, held.enter_context(target.reading())).compiled
        left_out = None
        if store is not None and made.trouble is not None:
            left_out, store = f"{store.url} is not usable ({made.trouble})", None
        measure = SparkMeasure(
            lambda each: load_job_config(conf, sets=[*sets, *as_sets(dict(each.sets))]),
            sessions,
            store,
            made.model,
            compiled,
            dtype=config.model.dtype,
        )
        fit(measure, sessions, made, config, seed=limits.seed)
        job = _job(config, made, compiled, sessions, measure, has_store=store is not None)
        setting = Setting(
            space_of(job, allows_other_bits=limits.allows_other_bits),
            measure.sample.rows,
            made.source.rows,
            measure.repeats,
            sessions.spark.sparkContext.master or "",
            job.cores,
            None if store is None else store.told,
            left_out,
        )
        watcher.opened(setting)
        return setting, _searched(setting.space, measure, limits, watcher)


def _opened(config: JobConfig, held: ExitStack) -> tuple[PreparedRun, TrialSessions]:
    """The job, open as for a run, and its session, which is stopped at the end if it was started here."""
    is_own = SparkSession.getActiveSession() is None
    made = prepared(config, Phases(), held, None)
    sessions = TrialSessions(
        config.spark, made.source.df.sparkSession, name=config.run.name, is_own=is_own
    )
    held.callback(sessions.close)
    if not made.source.rows:
        raise DataError(
            "the input has no row to try the job on; nothing was tried, name one that has some"
        )
    return made, sessions


def _job(
    config: JobConfig,
    made: PreparedRun,
    compiled: CompiledPlan,
    sessions: TrialSessions,
    measure: SparkMeasure,
    *,
    has_store: bool,
) -> Job:
    cores = _cores(sessions)
    return Job(
        config,
        made.model,
        compiled,
        cores=cores,
        threads=int(sessions.setting(TASK_CPUS, "1")),
        arrow_rows=int(sessions.setting(ARROW_ROWS, DEFAULT_ARROW_ROWS)),
        task_rows=-(-measure.sample.rows // cores),
        has_store=has_store,
        is_own_session=sessions.is_own,
    )


def _searched(space: Space, measure: SparkMeasure, limits: Limits, watcher: Watcher) -> Outcome:
    return Tuning(
        space,
        measure,
        trials=limits.trials,
        seconds=limits.seconds,
        seed=limits.seed,
        listener=watcher,
    ).run()


def _cores(sessions: TrialSessions) -> int:
    """The cores of one machine that Spark has for tasks."""
    context = sessions.spark.sparkContext
    if (context.master or "").startswith("local"):
        return context.defaultParallelism
    return int(sessions.setting("spark.executor.cores", "1"))


def fit(
    measure: SparkMeasure,
    sessions: TrialSessions,
    made: PreparedRun,
    config: JobConfig,
    *,
    seed: int,
) -> None:
    """Gives `measure` so many rows that a measurement takes a second; this starts the workers as well."""
    rows, cores = PILOT_ROWS, _cores(sessions)
    for step in range(_STEPS):
        more = min(WARM_UP_ROWS, rows // 4)
        drawn = sample_of(made.source, made.columns, config.cache, rows=rows + more, seed=seed)
        warm_up = min(more, drawn.rows // 2)
        measure.warm_up = drawn.first(warm_up or 1)
        measure.sample = drawn.rest(warm_up)
        found = measure.sample.rows
        measured = measure(Space(()).baseline)
        took_s = [found / rate for rate in measured.parts.values()]
        log.info("fit: %s rows took %.2g s", f"{found:,}", sum(took_s))
        is_all = found < rows or found >= min(MOST_ROWS, made.source.rows - warm_up)
        # The first step starts workers, which may take seconds: there only what they computed is a measure.
        is_started = step > 0 or measured.compute_s * found >= LEAST_S * cores
        is_long = is_started and (min(took_s) >= LEAST_S or sum(took_s) >= LONG_S)
        if is_long or is_all or step == _STEPS - 1:
            break
        # Of the first steps Spark's own start is the most, so what the workers computed is asked.
        wanted = 1.5 * LEAST_S * cores / (measured.compute_s + _SPARK_ROW_S)
        rows = min(MOST_ROWS, _GROWTH * found, max(2 * found, int(wanted)))
        sessions.forget()
    wanted_repeats = min(LEAST_S / min(took_s), LONG_S / sum(took_s))
    measure.repeats = max(1, min(_MOST_REPEATS, round(wanted_repeats)))
