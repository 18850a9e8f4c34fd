"""Which columns and expressions a model input is made of, as a caller or a conf writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, final

from pyspark.sql import Column

from kvspark.config.inputs import Default, InputColumns, input_columns
from kvspark.errors import UsageError
from kvspark.spark.columns.expression import refuse_varying

InputOf: TypeAlias = "str | Column | InputColumns | Mapping[str, Any] | Sequence[Any]"
"""What may stand for a model input: a column's name, a Column, a mapping as in a conf, or a list of these."""


@final
@dataclass(frozen=True, slots=True)
class Part:
    """One value of each row that a model input is made of."""

    column: str | None
    """A column of the table, by name."""
    expr: str | Column | None
    """Or what Spark computes from the row."""
    cast: str | None
    default: Default | None

    def __str__(self) -> str:
        if self.column is not None:
            return f"column {self.column!r}"
        text = self.expr if isinstance(self.expr, str) else str(self.expr)[len("Column<'") : -2]
        return f"expr {text!r}"


@final
@dataclass(frozen=True, slots=True)
class MadeInput:
    """A model input that Spark makes before the model sees the row."""

    parts: tuple[Part, ...]
    is_joined: bool
    """True if the parts are joined to one tensor, also where there is only one."""


def input_of(name: str, given: InputOf) -> str | MadeInput:
    """The column that is the model input `name`, or what that is made of.

    Raises:
        UsageError: `given` is nothing of that kind, or an expression that may give another value for the
            same row.
    """
    found: dict[str, Column] = {}
    written = _without_columns(given, found)
    if not isinstance(written, InputColumns):
        written = input_columns(name, written)
    if written.is_plain and written.column is not None:
        return written.column
    parts = tuple(
        Part(part.column, found.get(part.expr or "", part.expr), part.cast, part.default)
        for part in written.parts
    )
    for part in parts:
        if part.expr is not None:
            refuse_varying(str(part.expr), f"inputs.{name}: {part}")
    return MadeInput(parts, written.columns is not None)


def _without_columns(given: Any, found: dict[str, Column]) -> Any:
    """`given` with a text for each Column, which is then in `found`: a conf has no Columns."""
    if isinstance(given, Column):
        name = f"Column {len(found)}"
        found[name] = given
        return {"expr": name}
    if isinstance(given, InputColumns | str):
        return given
    if isinstance(given, Mapping):
        made = dict(given)
        for key in ("column", "expr"):
            if isinstance(given.get(key), Column):
                del made[key]
                made.update(_without_columns(given[key], found))
        if "columns" in given:
            made["columns"] = _without_columns(given["columns"], found)
        return made
    if isinstance(given, Sequence) and not isinstance(given, bytes):
        return [_without_columns(item, found) for item in given]
    raise UsageError(
        f"inputs: expected a column's name, a Column, a mapping or a list of these, got {type(given).__name__}"
    )
