"""What some rows of an input show: that they can be scored, right, and how long all of them take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

import pyarrow as pa
from pyspark.sql import SparkSession

from kvspark.cache.doctor.finding import Finding, size_text
from kvspark.cache.stage.admission import entry_memory_bytes
from kvspark.config.job import JobConfig
from kvspark.errors import KvsparkError, ModelError
from kvspark.infer.resolve.compiled_plan import CompiledPlan
from kvspark.plan.plan import Plan
from kvspark.spark.check.bad_sample import bad_sample
from kvspark.spark.check.decided import told_decider
from kvspark.spark.check.plan_sample import plan_sample
from kvspark.spark.check.run_preflight import checked_sample
from kvspark.spark.columns.column_map import ColumnMap
from kvspark.spark.columns.prepared import ready
from kvspark.spark.publishing.last_run import growth_of
from kvspark.spark.publishing.open_target import refuse_own_rows
from kvspark.spark.publishing.output_columns import check_sort_by
from kvspark.spark.scoring.task_device import on_task_devices
from kvspark.spark.session.session import open_session
from kvspark.spark.sources.find_input import find_input
from kvspark.spark.sources.input.source import Source, read_source
from kvspark.wording import count_of

if TYPE_CHECKING:
    from kvspark.infer.model import Model

SAMPLED_ROWS = 256
"""Rows from all places of the input that are computed."""
VERIFIED_ROWS = 8
"""Rows that the model's own runtime computes one by one."""

_SLOW_S = 2.5
"""Above it one call of the model is measure enough."""

Found = Iterator[tuple[Finding, KvsparkError | None]]


def row_findings(config: JobConfig, model: Model, columns: ColumnMap, plan: Plan) -> Found:
    """Reads the input as a run would, and tries the model on some rows, without a cache.

    Raises:
        KvsparkError: the run would fail with it.
    """
    spark = open_session(config.spark, name=config.run.name)
    device = on_task_devices(spark, model.bundle).device
    model = model if device is None else model.with_device(device)
    source = _read(spark, config, columns)
    if source.found is not None:
        refuse_own_rows(config, source.found.files)
    check_sort_by(config.output, source.df.schema)
    source, columns = source.with_inputs(partial(ready, columns, model.bundle))
    compiled = CompiledPlan.of(model.bundle, plan)
    cores = spark.sparkContext.defaultParallelism
    sets_aside = config.input.on_bad_row != "error"
    checked = checked_sample(source, compiled, columns, None, sets_aside=sets_aside)
    yield Finding("ok" if checked.unchecked is None else "warn", "preflight", checked.told), None
    if source.rows == 0:
        return
    if sets_aside:
        yield bad_sample(config.input, source, compiled, columns)
    if checked.unchecked is None:
        yield _verified(model, checked.arrays)
        sample = plan_sample(source, columns, checked, None, workers=cores).some(SAMPLED_ROWS)
        yield _expected(compiled, source, sample, cores), None
    if config.cache is not None:
        yield Finding("ok", "plan", told_decider(config, source.rows)), None
        yield _stored(model, plan, source), None


def _read(spark: SparkSession, config: JobConfig, columns: ColumnMap) -> Source:
    reads, defaulted = columns.reads, columns.defaulted
    found = find_input(
        config.input,
        settings=config.spark.conf,
        columns=reads,
        defaulted=defaulted,
        growth=growth_of(config),
    )
    return read_source(spark, config.input, found, columns=reads, defaulted=defaulted)


def _verified(model: Model, sample: Mapping[str, pa.Array]) -> tuple[Finding, KvsparkError | None]:
    found = model.verify({name: array[:VERIFIED_ROWS] for name, array in sample.items()})
    if found.ok:
        return Finding("ok", "verify", found.short()), None
    text = "; ".join(line.strip() for line in str(found).splitlines())
    error = ModelError(
        f"kvspark's rows are not those of {found.runtime}, first in row {found.first_row} of the "
        "input; nothing was written, look at Model.verify(columns) on those rows"
    )
    return Finding("bad", "verify", f"{error.line()} ({text})"), error


def _expected(
    compiled: CompiledPlan, source: Source, sample: Mapping[str, pa.Array], cores: int
) -> Finding:
    """How long the rows take where nothing is found in the cache."""
    from kvspark.infer.predict.predictor import Predictor

    predictor = Predictor(compiled.uncached(), threads=1)

    def seconds(arrays: Mapping[str, pa.Array]) -> float:
        start = perf_counter()
        for _ in predictor.stream_apart([(None, arrays)]):
            pass
        return perf_counter() - start

    seconds({name: array[:1] for name, array in sample.items()})  # weights are opened
    count = len(next(iter(sample.values())))
    first = seconds({name: array[:1] for name, array in sample.items()})
    if first > _SLOW_S:
        count = min(count, compiled.bundle.micro_batch.rows)
    a_row = seconds({name: array[:count] for name, array in sample.items()}) / count
    total = a_row * source.rows / cores
    return Finding(
        "ok",
        "expected",
        f"{time_text(total)} to compute {count_of(source.rows, 'row')} on {count_of(cores, 'core')} where nothing is cached "
        f"({1_000 * a_row:.3g} ms a row, measured on {count})",
    )


def _stored(model: Model, plan: Plan, source: Source) -> Finding:
    sizes = [
        entry_memory_bytes(stage.bytes_per_row) * plan.stages[stage.name].share
        for stage in model.stages
        if plan.stages[stage.name].cached and stage.bytes_per_row is not None
    ]
    total = sum(sizes) * source.rows
    got = f"at most {size_text(total)} of the store, if no two rows are equal"
    return Finding("ok", "entries", got)


def time_text(seconds: float) -> str:
    """`seconds` as an estimate: `less than 0.01 s`, `about 12 s`, `about 3 minutes`."""
    if seconds < 0.01:
        return "less than 0.01 s"
    if seconds < 120:
        return f"about {seconds:.2g} s"
    return f"about {seconds / 60:,.0f} minutes"
