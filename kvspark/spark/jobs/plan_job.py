"""The plan of a job, before it runs: what was measured, and what follows."""

from __future__ import annotations

from contextlib import ExitStack

from pyspark.sql import SparkSession

from kvspark.config.job import JobConfig
from kvspark.errors import CacheRequiredError, DataError, UsageError
from kvspark.plan.table import PlanTable
from kvspark.spark.jobs.planned import measured_table
from kvspark.spark.jobs.prepared_run import prepared
from kvspark.spark.publishing.open_target import open_target
from kvspark.spark.runs.phases import Phases
from kvspark.spark.sources.find_input import input_roots


def plan_job(config: JobConfig, *, spark: SparkSession | None = None) -> PlanTable:
    """What a run of `config` would measure and choose now; no output is written, and no row's results are.

    To the store it writes a window of random entries for each stage, which are kept for a minute, and how long a row
    of each stage takes. What the conf or the rule decides for such a run is as they say.

    Raises:
        KvsparkError: the run would fail with it.
        UsageError: the conf has no cache.
        CacheRequiredError: the store cannot be used now.
        DataError: there are no rows that can be scored.
    """
    if config.cache is None:
        raise UsageError(
            "the conf has no cache, so there is nothing to plan: every row is computed; name a store in cache.url"
        )
    target = open_target(config, inputs=input_roots(config.input))
    with ExitStack() as held:
        made = prepared(config, Phases(), held, spark)
        table = measured_table(config, made, held.enter_context(target.reading()))
        if table is not None:
            return table
        if not made.sample.arrays:
            named = ", ".join(config.input.named)
            raise DataError(
                f"no plan: {made.sample.told} in {named}; nothing was written, plan with a table that has rows which can be scored"
            )
        why = "" if made.trouble is None else f" ({made.trouble})"
        raise CacheRequiredError(
            f"the cache {config.cache.url} does not answer{why}, so nothing can be measured; nothing was written"
        )
