"""What a UDF is given for model inputs that are made of columns.

pandas, in which a UDF gets its rows, has no null among numbers. So a number goes as an array of one,
which is null as a whole, and a last column says which of a row's columns is to blame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import pyarrow as pa
from pyspark.sql import Column
from pyspark.sql import functions as F

from kvspark.infer.rows.arrow import arrow_type
from kvspark.model.bundle.bundle import Bundle
from kvspark.spark.columns.column_map import ColumnMap, quoted
from kvspark.spark.columns.input_faults import InputFaults, fault_number
from kvspark.spark.columns.input_parts import MadeInput, Part
from kvspark.spark.columns.input_values import Fault, Source, made_value
from kvspark.spec import BINARY, STRING


@final
@dataclass(frozen=True, slots=True)
class UdfInputs:
    """The columns that a UDF is called with, in this order."""

    given: tuple[Column, ...]
    kinds: tuple[pa.DataType, ...]
    wrapped: frozenset[int]
    """Places of numbers that go as an array of one."""
    faults: InputFaults | None


def udf_inputs(columns: ColumnMap, bundle: Bundle) -> UdfInputs:
    """What `columns` says of the inputs of `bundle`, for whatever table the UDF meets.

    Raises:
        SchemaError: another number of columns is joined than an input takes.
        UsageError: a default is no value of its input.
    """
    given: list[Column] = []
    kinds: list[pa.DataType] = []
    wrapped: set[int] = set()
    faults: list[tuple[str, Fault]] = []
    for place, spec in enumerate(bundle.inputs):
        made = columns.made.get(spec.name) or MadeInput(
            (Part(columns.inputs[spec.name], None, None, None),), is_joined=False
        )
        value, more = made_value(spec, made, [_source(part) for part in made.parts])
        kind = arrow_type(spec)
        if not spec.shape and spec.dtype not in (STRING, BINARY):
            value, kind = F.when(value.isNotNull(), F.array(value)), pa.list_(kind)
            wrapped.add(place)
        given.append(value)
        kinds.append(kind)
        faults += [(spec.name, fault) for fault in more]
    told = None
    if faults:
        number, words = fault_number(faults)
        told = InputFaults(len(given), words)
        given.append(number)
        kinds.append(pa.int32())
    return UdfInputs(tuple(given), tuple(kinds), frozenset(wrapped), told)


def _source(part: Part) -> Source:
    if part.column is not None:
        return Source(part, F.col(quoted(part.column)), None)
    return Source(
        part, part.expr if isinstance(part.expr, Column) else F.expr(str(part.expr)), None
    )
