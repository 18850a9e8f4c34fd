"""From which columns a model input is made: the same for a conf and for the Python API.

inputs:
  x: features                                       # a column as it is
  amounts: [amount, fee, {column: tax, default: 0}] # joined to one tensor, in this order
  ratio: {expr: "fee / amount", cast: float}        # Spark SQL, then a cast that may round
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, final

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from typing_extensions import Self

from kvspark.config.section.base import Name, Section
from kvspark.config.sql.varying import unfit

Default = bool | int | float | str

_TYPES = {
    "boolean": ("bool",),
    "tinyint": ("byte", "int8"),
    "smallint": ("short", "int16"),
    "int": ("integer", "int32"),
    "bigint": ("long", "int64"),
    "float": ("real", "float32"),
    "double": ("float64",),
    "string": (),
}
_BY_ALIAS = {alias: name for name, aliases in _TYPES.items() for alias in (name, *aliases)}


def _plain_name(value: object) -> object:
    return _BY_ALIAS.get(value.lower(), value) if isinstance(value, str) else value


Cast = Annotated[
    Literal["boolean", "tinyint", "smallint", "int", "bigint", "float", "double", "string"],
    BeforeValidator(_plain_name),
]
"""A type of Spark SQL, by its name there or in numpy."""

_CAST = (
    "Cast it to this type of Spark SQL first, even where that rounds (`float`, `double`, `bigint`, ...). A value that "
    "does not fit is a bad row. Casts that lose nothing need no `cast`."
)
_DEFAULT = "The value for null. Without it, a null is a bad row. NaN is a number and stays."


def _of_one_row(text: str | None) -> str | None:
    said = None if text is None else unfit(text)
    if said is not None:
        raise ValueError(f"expr {text!r} {said}")
    return text


_Expr = Annotated[Name | None, AfterValidator(_of_one_row)]


@final
class InputPart(Section):
    """One column of a joined input."""

    column: Name | None = Field(default=None, description="The column.")
    expr: _Expr = Field(default=None, description="Spark SQL over the row's columns instead.")
    cast: Cast | None = Field(default=None, description=_CAST)
    default: Default | None = Field(default=None, description=_DEFAULT)

    @model_validator(mode="before")
    @classmethod
    def _a_text_is_a_column(cls, value: Any) -> Any:
        return {"column": value} if isinstance(value, str | int) else value

    @model_validator(mode="after")
    def _it_comes_from_one_place(self) -> Self:
        if (self.column is None) == (self.expr is None):
            raise ValueError("name either a column or an expr")
        return self

    @model_serializer(mode="wrap")
    def _shortest(self, handler: SerializerFunctionWrapHandler) -> Any:
        return _short(handler(self), "column")


@final
class InputColumns(Section):
    """Where one model input comes from."""

    column: Name | None = Field(
        default=None, description="One column. A bare text is short for it."
    )
    columns: Annotated[tuple[InputPart, ...], Field(strict=False, min_length=1)] | None = Field(
        default=None,
        description="Columns that are joined to one tensor, in this order: names, or mappings like this "
        "one. A bare list is short for it.",
    )
    expr: _Expr = Field(
        default=None,
        description="Spark SQL over the row's columns. It must give the same for the same row: `rand()`, "
        "`current_timestamp`, aggregates and windows are refused.",
    )
    cast: Cast | None = Field(default=None, description=_CAST)
    default: Default | None = Field(default=None, description=_DEFAULT)

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: Any) -> Any:
        if isinstance(value, str | int) and not isinstance(value, bool):
            return {"column": value}
        if isinstance(value, list | tuple):
            return {"columns": value}
        return value

    @model_validator(mode="after")
    def _it_comes_from_one_place(self) -> Self:
        if sum(place is not None for place in (self.column, self.columns, self.expr)) != 1:
            raise ValueError("name one of column, columns and expr")
        return self

    @model_serializer(mode="wrap")
    def _shortest(self, handler: SerializerFunctionWrapHandler) -> Any:
        return _short(_short(handler(self), "column"), "columns")

    @property
    def is_plain(self) -> bool:
        """True for one column that is taken as it is."""
        return self.column is not None and self.cast is None and self.default is None

    @property
    def parts(self) -> tuple[InputPart, ...]:
        """Its columns in order; `cast` and `default` of the whole are those of each that has none."""
        own = self.columns or (InputPart.checked(column=self.column, expr=self.expr),)
        given = {"cast": self.cast, "default": self.default}
        return tuple(
            part.model_copy(
                update={key: value for key, value in given.items() if getattr(part, key) is None}
            )
            for part in own
        )


def _short(written: Any, key: str) -> Any:
    """What stands for the mapping `written` where it says nothing but `key`."""
    if not isinstance(written, Mapping):
        return written
    said = {name: value for name, value in written.items() if value is not None}
    return said[key] if set(said) == {key} else said


def input_columns(name: str, written: Any) -> InputColumns:
    """What `written` says of the model input `name`: a text, a list or a mapping, as in a conf.

    Raises:
        UsageError: it is none of these, or a key or value of it is wrong.
    """
    return _Inputs.check({"inputs": {name: written}}).inputs[name]


@final
class _Inputs(Section):
    """So that what is wrong is told with its path."""

    inputs: dict[str, InputColumns]
