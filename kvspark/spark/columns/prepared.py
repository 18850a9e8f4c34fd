"""A table with the model's inputs that are made of its columns, behind its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import DecimalType, StructType

from kvspark.model.bundle.bundle import Bundle
from kvspark.spark.columns.column_map import ColumnMap, check_columns, place_of
from kvspark.spark.columns.expression import with_expressions
from kvspark.spark.columns.input_faults import InputFaults, fault_number
from kvspark.spark.columns.input_parts import MadeInput, Part
from kvspark.spark.columns.input_values import Fault, Source, made_value

HIDDEN = "_kvspark_input"
"""How the columns begin that are made for the model; no message shows them."""


def prepared(df: DataFrame, columns: ColumnMap, bundle: Bundle) -> tuple[DataFrame, ColumnMap]:
    """`df` with what `columns` makes of its columns at its end, and `columns` with those in their place.

    Raises:
        SchemaError: a column is missing, there twice, or of a type that does not become the input's
            without loss.
        UsageError: an expression that this table cannot compute, or a default that is no value.
    """
    made = {**columns.made, **_whole_decimals(columns, df.schema)}
    if not made:
        return df, columns
    own = df.columns
    sources, plain = _sources(df, made)
    values: dict[str, Column] = {}
    faults: list[tuple[str, Fault]] = []
    for spec in bundle.inputs:
        if spec.name in made:
            values[spec.name], more = made_value(spec, made[spec.name], sources[spec.name])
            faults += [(spec.name, fault) for fault in more]
    names = {name: _free(f"{HIDDEN}_{place}", own) for place, name in enumerate(values)}
    added, told = list(values.values()), None
    hidden = list(names.values())
    if faults:
        number, words = fault_number(faults)
        told = InputFaults(len(own) + len(added), words)
        added.append(number)
        hidden.append(_free(f"{HIDDEN}_fault", own))
    own_columns = [F.col(f"_{place}") for place in range(len(own))]
    return plain.select(*own_columns, *added).toDF(*own, *hidden), replace(
        columns, inputs={**columns.inputs, **names}, made={}, hidden=tuple(hidden), faults=told
    )


def ready(columns: ColumnMap, bundle: Bundle, df: DataFrame) -> tuple[DataFrame, ColumnMap]:
    """What `prepared` gives, for a table that can be scored.

    Raises:
        SchemaError: a column is missing, there twice, or of a type that the model does not take.
        UsageError: as `prepared`, or the table has a column of an output's name.
    """
    df, columns = prepared(df, columns, bundle)
    check_columns(columns, df.schema, bundle)
    return df, columns


def _whole_decimals(columns: ColumnMap, schema: StructType) -> dict[str, MadeInput]:
    """The inputs whose column is a decimal, which no tensor holds as it is."""
    kinds = {field.name: field.dataType for field in schema.fields}
    return {
        name: MadeInput((Part(column, None, None, None),), is_joined=False)
        for name, column in columns.inputs.items()
        if isinstance(kinds.get(column), DecimalType)
    }


def _sources(
    df: DataFrame, made: Mapping[str, MadeInput]
) -> tuple[dict[str, list[Source]], DataFrame]:
    """The parts of each input as columns of a table whose columns are `_0`, `_1`, ..."""
    own = df.columns
    parts = [(name, part) for name, each in made.items() for part in each.parts]
    expressions = [
        (f"inputs.{name}: {part}", part.expr) for name, part in parts if part.expr is not None
    ]
    full = with_expressions(df, expressions, [f"_expr_{n}" for n in range(len(expressions))])
    schema = full.schema
    sources: dict[str, list[Source]] = {name: [] for name in made}
    next_place = len(own)
    for name, part in parts:
        if part.column is not None:
            place = place_of(part.column, df.schema, what=f"input {name!r}")
        else:
            place, next_place = next_place, next_place + 1
        field = schema.fields[place]
        sources[name].append(Source(part, F.col(f"_{place}"), field.dataType, field.nullable))
    # By place: names may be there twice, or differ in case only.
    return sources, full.toDF(*(f"_{place}" for place in range(len(schema.fields))))


def _free(name: str, taken: list[str]) -> str:
    there = {each.lower() for each in taken}
    while name in there:
        name += "_"
    return name
