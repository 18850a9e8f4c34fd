"""What a run does before it computes: it opens its parts and a session, reads its input, and checks some rows."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, final

from pyspark.sql import SparkSession

from kvspark.config.job import JobConfig
from kvspark.infer.resolve.compiled_plan import CompiledPlan
from kvspark.spark.check.affordable import affordable
from kvspark.spark.check.opened import Opened, check_cache, open_parts
from kvspark.spark.check.run_preflight import Sample, checked_sample
from kvspark.spark.columns.column_map import ColumnMap
from kvspark.spark.columns.prepared import ready
from kvspark.spark.runs.phases import BEFORE_A_PLAN, Phases
from kvspark.spark.scoring.task_device import on_task_devices
from kvspark.spark.session.session import open_session
from kvspark.spark.sources.input.found_input import FoundInput
from kvspark.spark.sources.input.source import Source, read_source
from kvspark.wording import count_of

if TYPE_CHECKING:
    from kvspark.cache.cache import Cache
    from kvspark.infer.model import Model


@final
@dataclass(frozen=True, slots=True)
class PreparedRun:
    """What is known of a run, and open, before it computes; made by `prepared`."""

    model: Model
    """On the device of the tasks."""
    source: Source
    """With the inputs that are made of its columns."""
    found: FoundInput
    columns: ColumnMap
    compiled: CompiledPlan
    """Of the plan that the conf and the rule make."""
    cache: Cache | None
    trouble: str | None
    """Why the cache is not used, where there is one."""
    sample: Sample
    passed_s: float
    """Wall seconds of all that."""


def prepared(
    config: JobConfig, phases: Phases, held: ExitStack, spark: SparkSession | None
) -> PreparedRun:
    """The parts of a run of `config` in the phases `open`, `read` and `preflight`; `held` closes them. Nothing is written.

    Raises:
        KvsparkError: the run would fail with it.
    """
    with phases.phase("open") as told:
        opened = open_parts(config)  # before the session, which takes seconds to start
        cache = opened.cache
        if cache is not None:
            held.enter_context(closing(cache))
        trouble = check_cache(config, cache)
        spark = spark or open_session(config.spark, name=config.run.name)
        device = on_task_devices(spark, opened.model.bundle).device
        model = opened.model if device is None else opened.model.with_device(device)
        told.append(f"model {model.name} {model.fingerprint.hex()[:12]}")
    with phases.phase("read") as told:
        source, columns = _read(spark, config, opened)
        told.append(
            f"{count_of(source.rows, 'row')} in {count_of(len(opened.found.files), 'file')}"
        )
    compiled = affordable(config, CompiledPlan.of(model.bundle, opened.plan), rows=source.rows)
    with phases.phase("preflight") as told:
        sets_aside = config.input.on_bad_row != "error"
        sample = checked_sample(source, compiled, columns, cache, sets_aside=sets_aside)
        told.append(sample.told)
    if sample.unchecked is not None:
        trouble = None if cache is None else sample.unchecked
    passed_s = sum(phases.seconds[name] for name in BEFORE_A_PLAN)
    return PreparedRun(
        model, source, opened.found, columns, compiled, cache, trouble, sample, passed_s
    )


def _read(spark: SparkSession, config: JobConfig, opened: Opened) -> tuple[Source, ColumnMap]:
    """The rows with the inputs that are made of their columns, and where these are."""
    columns, bundle = opened.columns, opened.model.bundle
    made = partial(ready, columns, bundle)
    source = read_source(
        spark,
        config.input,
        opened.found,
        columns=columns.reads,
        defaulted=columns.defaulted,
        check=made,
    )
    return source.with_inputs(made)
