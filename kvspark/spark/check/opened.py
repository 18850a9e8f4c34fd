"""What a run opens before there is a JVM: model, columns, plan, input files and cache.

A session takes seconds to start. What is wrong with any of these is said before.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, final

from pyspark.sql.types import StructType

from kvspark.config.job import JobConfig
from kvspark.errors import CacheRequiredError, SecretError, UsageError
from kvspark.plan.plan import Plan, StagePlan
from kvspark.spark.columns.column_map import ColumnMap, check_columns, column_map
from kvspark.spark.columns.subject import subject_inputs
from kvspark.spark.publishing.last_run import check_results, growth_of
from kvspark.spark.publishing.output_columns import check_output
from kvspark.spark.sources.find_input import find_input
from kvspark.spark.sources.input.found_input import FoundInput
from kvspark.spark.tables.footer_schema import UNKNOWN

if TYPE_CHECKING:
    from kvspark.cache.cache import Cache
    from kvspark.infer.model import Model
    from kvspark.model.bundle.bundle import Bundle

log = logging.getLogger(__name__)


@final
@dataclass(frozen=True, slots=True)
class Opened:
    """What a run works with."""

    model: Model
    columns: ColumnMap
    plan: Plan
    """With every stage of the model named."""
    found: FoundInput
    cache: Cache | None
    """To be closed by whoever opened it."""


def open_parts(config: JobConfig) -> Opened:
    """What `config` names, checked as far as that needs no Spark; nothing is written.

    Secrets come first: a model takes up to a minute to open.

    Raises:
        ModelError: the model is not there or damaged.
        UsageError: a name that the model does not have, or a plan that does not fit it.
        DataError: the input is not there, not readable, or has a null that its footers tell of.
        SchemaError: a column is missing or of a type that the model does not take.
        SecretError: a secret is named and cannot be read.
    """
    if config.cache is None and config.run.require_cache:
        raise UsageError("run.require_cache is on and there is no cache; name one in cache.url")
    cache = _first_of_all(config)
    try:
        model = open_model(config)
        columns = column_map(model.bundle, config.inputs, config.outputs)
        plan = plan_of(config, model.bundle)
        growth = growth_of(config)
        check_results(config, growth, model.fingerprint)
        found = find_input(
            config.input,
            settings=config.spark.conf,
            columns=columns.reads,
            defaulted=columns.defaulted,
            growth=growth,
        )
        check_found(config, found, columns, model.bundle)
    except BaseException:
        if cache is not None:
            cache.close()
        raise
    return Opened(model, columns, plan, found, cache)


def _first_of_all(config: JobConfig) -> Cache | None:
    try:
        return open_cache(config)
    except SecretError as error:
        raise SecretError(
            f"{error} (model and input were not looked at yet; kvspark check tells all faults at once)"
        ) from None


def open_model(config: JobConfig) -> Model:
    """The model that `config` names, in the shapes and on the device that it asks for.

    Raises:
        ModelError: there is no model, or a damaged one.
        UsageError: the conf asks for another length, dtype, prompt or size than a saved model has.
    """
    from kvspark.infer import open_model

    shapes = config.model.micro_batch
    model = open_model.open_model(
        config.model.path,
        max_length=config.model.max_length,
        micro_batch=None if shapes is None else shapes.value(),
        dtype=config.model.dtype,
        long_texts=config.model.long_texts,
        prompt=config.model.prompt,
        prompt_name=config.model.prompt_name,
        truncate_dim=config.model.truncate_dim,
    )
    return model if config.model.device is None else model.with_device(config.model.device)


def plan_of(config: JobConfig, bundle: Bundle) -> Plan:
    """The plan that `config` writes out for the model `bundle`, with the rule's choice for all other stages.

    Raises:
        UsageError: it does not fit the model.
    """
    plan = _written(config).for_bundle(bundle)
    if config.plan.mode != "off":
        return plan
    off = {
        n: replace(s, cached=False) for n, s in plan.stages.items() if n not in config.plan.stages
    }
    return plan.with_stages({**plan.stages, **off})


def _written(config: JobConfig) -> Plan:
    stages = {
        name: StagePlan(stage.cached, stage.codec, stage.share or 1.0)
        for name, stage in config.plan.stages.items()
    }
    return Plan(
        stages,
        max_pending_rows=config.plan.max_pending_rows,
        max_held_bytes=config.plan.max_held_bytes,
        distinct_first=config.plan.distinct_first,
        memo_bytes=config.plan.memo_bytes,
        watch=config.plan.watch,
        short_calls=config.plan.short_calls,
        lossy_tolerance=config.plan.lossy_tolerance,
    )


def check_found(config: JobConfig, found: FoundInput, columns: ColumnMap, bundle: Bundle) -> None:
    """Does nothing if nothing is known of `found` that the model cannot take: types, then nulls.

    Raises:
        SchemaError: a column is of another type than the model takes.
        DataError: a column has nulls, all rows are read and a bad row is an error.
        UsageError: the table has a column of an output's name.
        OutputError: the table to which rows are added has other columns.
    """
    schema = found.schema
    if schema is not None:
        kinds = {field.name: field.dataType for field in schema.fields}
        if UNKNOWN not in (kinds.get(name) for name in columns.reads):
            check_columns(columns, schema, bundle)
        subject_inputs(config.cache, schema)
        check_output(config, StructType([*schema.fields, *columns.added(bundle)]))
    if config.input.filter is None and config.input.on_bad_row == "error":
        found.refuse_known_nulls([name for name in columns.reads if name not in columns.defaulted])


def open_cache(config: JobConfig) -> Cache | None:
    """The cache of `config`, which connects when it is first used; None if the conf has none.

    Raises:
        UsageError: the URL names no store that can be opened.
        SecretError: a secret is named and cannot be read.
    """
    if config.cache is None:
        return None
    from kvspark.cache.cache import Cache

    return Cache.from_config(config.cache)


def check_cache(config: JobConfig, cache: Cache | None) -> str | None:
    """Why the cache is not usable now; None if it is, or if there is none.

    Raises:
        CacheRequiredError: the run requires it.
        SecretError: the store refuses us.
    """
    trouble = None if cache is None else cache.check()
    if trouble is not None and config.cache is not None:
        if config.run.require_cache:
            raise CacheRequiredError(
                f"the cache {config.cache.url} was required and is not usable ({trouble}); nothing "
                "was written, start it or leave run.require_cache out"
            )
        log.warning("the cache %s is not usable (%s): computing", config.cache.url, trouble)
    return trouble
