"""Which column is which input, and which output becomes which column; checked on the driver."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import final

from pyspark.errors import PySparkException
from pyspark.sql.pandas.types import from_arrow_type, to_arrow_type
from pyspark.sql.types import DataType, DecimalType, NullType, StructField, StructType

from kvspark.errors import SchemaError, UsageError
from kvspark.infer.rows.arrow import arrow_type, check_input_type
from kvspark.model.bundle.bundle import Bundle
from kvspark.spark.columns.castable import is_exact
from kvspark.spark.columns.input_check import check_made
from kvspark.spark.columns.input_faults import InputFaults
from kvspark.spark.columns.input_parts import InputOf, MadeInput, input_of
from kvspark.spark.columns.missing_column import missing_column
from kvspark.spec import TensorSpec


@final
@dataclass(frozen=True, slots=True)
class ColumnMap:
    """The columns of a model."""

    inputs: Mapping[str, str]
    """Model input -> column, for every input of the model."""
    outputs: Mapping[str, str]
    """Model output -> new column, in the model's order."""
    made: Mapping[str, MadeInput] = field(default_factory=dict)
    """The inputs that are still to be made of columns (`kvspark.spark.columns.prepared`); not in `inputs` yet."""
    hidden: tuple[str, ...] = ()
    """Columns at the end of the table that were made so and that no reader sees."""
    faults: InputFaults | None = None
    """What the last of them says of rows that have no value for an input."""

    reads: tuple[str, ...] = ()
    """The table's own columns that the model reads by name."""
    defaulted: frozenset[str] = frozenset()
    """Those of `reads` whose nulls stand for a value."""
    expressions: tuple[str, ...] = ()
    """The Spark SQL that the model reads."""

    def may_read(self, column: str) -> bool:
        """False if the model does not see the values of `column`."""
        mentioned = (re.search(rf"(?i)\b{re.escape(column)}\b", text) for text in self.expressions)
        return column in self.reads or any(mentioned)

    def places(self, schema: StructType) -> dict[str, int]:
        """Model input -> position of its column in `schema`."""
        return {name: schema.names.index(column) for name, column in self.inputs.items()}

    def added(self, bundle: Bundle) -> list[StructField]:
        """The new columns, as Spark has them."""
        specs = {spec.name: spec for spec in bundle.outputs}
        return [
            StructField(column, from_arrow_type(arrow_type(specs[name])), nullable=True)
            for name, column in self.outputs.items()
        ]


def column_map(
    bundle: Bundle, inputs: Mapping[str, InputOf] | None, outputs: Mapping[str, str] | None
) -> ColumnMap:
    """The columns of `bundle`; an input that is not named, or outputs without names, have their own.

    Raises:
        UsageError: a name that the model does not have, or one column for two outputs.
    """
    own_inputs = [spec.name for spec in bundle.inputs]
    own_outputs = [spec.name for spec in bundle.outputs]
    inputs = inputs or {}
    outputs = {name: name for name in own_outputs} if outputs is None else outputs
    _check_known("inputs", "input", inputs, own_inputs, bundle)
    _check_known("outputs", "output", outputs, own_outputs, bundle)
    twice = [name for name, count in Counter(map(str.lower, outputs.values())).items() if count > 1]
    if twice:
        raise UsageError(f"outputs names column {twice[0]!r} for two outputs; give each its own")
    if "" in outputs.values():
        raise UsageError("outputs names a column '' for an output; give it a name")
    if not outputs:
        raise UsageError(f"outputs is empty; keep one of {', '.join(own_outputs)}")
    given = {name: input_of(name, inputs.get(name, name)) for name in own_inputs}
    plain = {name: column for name, column in given.items() if isinstance(column, str)}
    made = {name: each for name, each in given.items() if isinstance(each, MadeInput)}
    parts = [part for each in made.values() for part in each.parts]
    named = [part for part in parts if part.column is not None]
    needed = {*plain.values(), *(part.column for part in named if part.default is None)}
    reads = tuple(dict.fromkeys([*plain.values(), *(str(part.column) for part in named)]))
    return ColumnMap(
        plain,
        {name: outputs[name] for name in own_outputs if name in outputs},
        made,
        reads=reads,
        defaulted=frozenset(reads) - needed,
        expressions=tuple(str(part) for part in parts if part.expr is not None),
    )


def check_columns(columns: ColumnMap, schema: StructType, bundle: Bundle) -> None:
    """Does nothing if a table of `schema` can be scored.

    Raises:
        SchemaError: a column is missing, there twice, or of a type that the model does not take.
        UsageError: the table has a column of an output's name.
    """
    for spec in bundle.inputs:
        if spec.name in columns.inputs:
            column = columns.inputs[spec.name]
            _check_input(column, spec, schema, is_own=column not in columns.hidden)
        elif spec.name in columns.made:
            check_made_input(spec, columns.made[spec.name], schema)
    # Spark and Parquet readers do not tell Score from score.
    there = {name.lower(): name for name in schema.names if name not in columns.hidden}
    for output, column in columns.outputs.items():
        if column.lower() in there:
            raise UsageError(
                f"output {output!r} would be column {column!r}, and the table has "
                f"{there[column.lower()]!r} already; name another column in outputs"
            )


def quoted(name: str) -> str:
    """The column `name` as Spark SQL reads it, dots and all."""
    return f"`{name.replace('`', '``')}`"


def _check_known(
    what: str, kind: str, given: Mapping[str, object], own: Collection[str], bundle: Bundle
) -> None:
    for name in given:
        if name not in own:
            near = difflib.get_close_matches(name, own, n=1)
            advice = f"; did you mean {near[0]!r}?" if near else ""
            raise UsageError(
                f"{what} names {name!r}, which is no {kind} of model {bundle.name!r} "
                f"(it has {', '.join(own)}){advice}"
            )


def place_of(column: str, schema: StructType, *, what: str) -> int:
    """The place of `column` in `schema`.

    Raises:
        SchemaError: it is missing, or there twice; says of what it should be the column.
    """
    count = schema.names.count(column)
    if count == 0:
        raise SchemaError(f"{what}: {missing_column(column, schema.names)}")
    if count > 1:
        raise SchemaError(
            f"{what}: column {column!r} is there {count} times; drop one, rename one, or name it as a Column"
        )
    return schema.names.index(column)


def check_made_input(spec: TensorSpec, made: MadeInput, schema: StructType) -> None:
    """Does nothing if the columns of a table of `schema` become the input `spec`.

    A type that nobody knows yet (void) is not looked at.

    Raises:
        SchemaError: a column is missing, there twice, or of a type that does not become the input's.
        UsageError: a default is no value of the input.
    """
    kinds = [None if isinstance(k, NullType) else k for k in _kinds(made, spec, schema)]
    check_made(spec, made, kinds)


def _kinds(made: MadeInput, spec: TensorSpec, schema: StructType) -> list[DataType | None]:
    """The types of the parts of `made` in a table of `schema`; None for what Spark computes."""
    what = f"input {spec.name!r}"
    there = {field.name: field.dataType for field in schema.fields}
    return [
        schema.fields[place_of(part.column, schema, what=what)].dataType
        if part.column is not None
        # An expression may be a column's name alone.
        else there.get(str(part.expr).strip("`"))
        for part in made.parts
    ]


def _check_input(column: str, spec: TensorSpec, schema: StructType, *, is_own: bool) -> None:
    place = place_of(column, schema, what=f"input {spec.name!r}")
    kind = schema.fields[place].dataType
    if isinstance(kind, DecimalType) and not spec.shape and is_exact(kind, spec.dtype):
        return  # it is made a number before the model sees it
    try:
        arrow = to_arrow_type(kind)
    except PySparkException:
        raise SchemaError(
            f"input {spec.name!r}: column {column!r} has type {kind.simpleString()}, which has no "
            "Arrow form; cast the column"
        ) from None
    try:
        check_input_type(arrow, spec)
    except SchemaError as exc:
        # The name of a column that kvspark made says nothing to anybody.
        told = f"column {column!r} ({kind.simpleString()}): " if is_own else ""
        raise SchemaError(f"{told}{exc}") from None
