"""Which column is which input, and which output becomes which column; checked on the driver."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import final

from pyspark.errors import PySparkException
from pyspark.sql.pandas.types import from_arrow_type, to_arrow_type
from pyspark.sql.types import StructField, StructType

from kvspark.errors import SchemaError, UsageError
from kvspark.infer.arrow import arrow_type, check_input_type
from kvspark.model.bundle import Bundle
from kvspark.spec import TensorSpec


@final
@dataclass(frozen=True, slots=True)
class ColumnMap:
    """The columns of a model."""

    inputs: Mapping[str, str]
    """Model input -> column, for every input of the model."""
    outputs: Mapping[str, str]
    """Model output -> new column, in the model's order."""

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
    bundle: Bundle, inputs: Mapping[str, str] | None, outputs: Mapping[str, str] | None
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
    if not outputs:
        raise UsageError(f"outputs is empty; keep one of {', '.join(own_outputs)}")
    return ColumnMap(
        {name: inputs.get(name, name) for name in own_inputs},
        {name: outputs[name] for name in own_outputs if name in outputs},
    )


def check_columns(columns: ColumnMap, schema: StructType, bundle: Bundle) -> None:
    """Does nothing if a table of `schema` can be scored.

    Raises:
        SchemaError: a column is missing, there twice, or of a type that the model does not take.
        UsageError: the table has a column of an output's name.
    """
    for spec in bundle.inputs:
        _check_input(columns.inputs[spec.name], spec, schema)
    # Spark and Parquet readers do not tell Score from score.
    there = {name.lower(): name for name in schema.names}
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
    what: str, kind: str, given: Mapping[str, str], own: Collection[str], bundle: Bundle
) -> None:
    for name in given:
        if name not in own:
            near = difflib.get_close_matches(name, own, n=1)
            advice = f"; did you mean {near[0]!r}?" if near else ""
            raise UsageError(
                f"{what} names {name!r}, which is no {kind} of model {bundle.name!r} "
                f"(it has {', '.join(own)}){advice}"
            )


def _check_input(column: str, spec: TensorSpec, schema: StructType) -> None:
    count = schema.names.count(column)
    if count == 0:
        raise SchemaError(
            f"input {spec.name!r}: there is no column {column!r} (found: "
            f"{', '.join(schema.names) or 'none'}); map the input to a column in inputs"
        )
    if count > 1:
        raise SchemaError(
            f"input {spec.name!r}: column {column!r} is there {count} times; drop one"
        )
    kind = schema[column].dataType
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
        raise SchemaError(f"column {column!r} ({kind.simpleString()}): {exc}") from None
