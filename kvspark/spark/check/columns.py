"""All that is wrong with the columns of an input, as far as that is known without reading it: types first, then nulls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial

from pyspark.sql.pandas.types import from_arrow_type
from pyspark.sql.types import DataType, StructField, StructType

from kvspark.config.job import JobConfig
from kvspark.errors import DataError, KvsparkError, OutputError, SchemaError, UsageError
from kvspark.infer.rows.arrow import arrow_type
from kvspark.model.bundle.bundle import Bundle
from kvspark.spark.columns.column_map import ColumnMap, check_columns, check_made_input
from kvspark.spark.columns.missing_column import missing_column
from kvspark.spark.columns.subject import subject_inputs
from kvspark.spark.publishing.last_run import growth_of
from kvspark.spark.publishing.output_columns import check_output, check_sort_by
from kvspark.spark.sources.find_input import find_input
from kvspark.spark.sources.input.found_input import FoundInput
from kvspark.spark.tables.footer_schema import UNKNOWN


def column_faults(
    config: JobConfig, found: FoundInput, columns: ColumnMap, bundle: Bundle
) -> Iterator[KvsparkError]:
    """What a run would fail with, one for each column that is missing, of another type, or has nulls."""
    schema = found.schema
    if schema is None:
        return  # the rows are looked at in a session, which tells
    told: set[str] = set()
    for error in _schema_faults(schema, columns, bundle):
        if str(error) not in told:
            told.add(str(error))
            yield error
    yield from _raised(partial(subject_inputs, config.cache, schema))
    if not told:
        added = StructType([*schema.fields, *columns.added(bundle)])
        yield from _raised(partial(check_output, config, added))
        yield from _raised(partial(check_sort_by, config.output, schema))
    if told or config.input.filter is not None or config.input.on_bad_row != "error":
        return
    names = [name for name in columns.reads if name not in columns.defaulted]
    counted = find_input(
        config.input, settings=config.spark.conf, columns=names, growth=growth_of(config)
    )
    for name in names:
        yield from _raised(partial(counted.refuse_known_nulls, [name]))


def _schema_faults(
    schema: StructType, columns: ColumnMap, bundle: Bundle
) -> Iterator[KvsparkError]:
    """Of each input and each output, what is wrong where all others are right."""
    types = {spec.name: from_arrow_type(arrow_type(spec)) for spec in bundle.inputs}
    right = {column: types[name] for name, column in columns.inputs.items()}
    there = {field.name: field for field in schema.fields}
    alone = replace(columns, outputs={}, made={})  # which are looked at below
    for name, column in columns.inputs.items():
        if column not in there:
            yield SchemaError(f"input {name!r}: {missing_column(column, schema.names)}")
        elif there[column].dataType != UNKNOWN:
            tried = [there[column], *_fields(right, without=column)]
            yield from _raised(partial(check_columns, alone, StructType(tried), bundle))
    for spec in bundle.inputs:
        if spec.name in columns.made:
            yield from _raised(partial(check_made_input, spec, columns.made[spec.name], schema))
    others = [field for field in schema.fields if field.name not in right]
    for name, column in columns.outputs.items():
        one = replace(columns, outputs={name: column}, made={})
        tried = [*_fields(right), *others]
        yield from _raised(partial(check_columns, one, StructType(tried), bundle))


def _fields(types: Mapping[str, DataType], *, without: str = "") -> list[StructField]:
    return [StructField(name, kind) for name, kind in types.items() if name != without]


def _raised(check: Callable[[], object]) -> Iterator[KvsparkError]:
    try:
        check()
    except (DataError, OutputError, UsageError) as error:
        yield error
