"""What is read, and from which columns of it a model input is made: the same for a conf and for the Python API.

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
    field_validator,
    model_serializer,
    model_validator,
)
from typing_extensions import Self

from kvspark.config.base import Name, Section, Text, Texts
from kvspark.config.sql.varying import unfit, varies, varying

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


def list_of_one(value: object) -> object:
    """A text as the list of it."""
    return [value] if isinstance(value, str) else value


def _null_as_text(value: object) -> object:
    # `on_bad_row: null` is YAML for nothing at all.
    return "null" if value is None else value


@final
class InputConfig(Section):
    """The table that is read."""

    paths: Texts = Field(min_length=1, description="Parquet files or folders.")
    filter: Name | None = Field(
        default=None,
        description="Rows to score, as a Spark SQL condition. Without it, all rows. It must say the same of the same row "
        "whenever it is asked: `rand()`, `current_date` and the like are refused; a date is `{{ run.date }}`.",
    )
    partitions: dict[str, Text | None] = Field(
        default_factory=dict,
        description="Read only these partitions, by column: `{dt: 2026-01-01}`. `{dt: null}` is the "
        "partition of nulls, `__HIVE_DEFAULT_PARTITION__`. Write values as they are, not as "
        "in the folder's name (`a/b`, not `a%2Fb`).",
    )
    strict_files: bool = Field(
        default=False, description="Fail on a file of zero bytes. Otherwise the run warns."
    )
    merge_schema: bool = Field(
        default=False,
        description="Read the union of the columns of all files: null where a file has no such column, "
        "and the wider of two types (`int` and `bigint`). Otherwise files that do not agree "
        "are an error.",
    )
    fail_on_empty: bool = Field(
        default=False,
        description="Fail if no row is left to score. Otherwise an empty table is published.",
    )
    id: Annotated[Texts, BeforeValidator(list_of_one)] = Field(
        default=(),
        description="The columns that identify a row in the quarantine table. Without them, its file and "
        "its place in that file.",
    )
    on_bad_row: Annotated[
        Literal["error", "null", "quarantine"], BeforeValidator(_null_as_text)
    ] = Field(
        default="error",
        description="What becomes of a row that cannot be scored: it fails the run (`error`), its "
        "outputs are null (`null`), or it is left out and recorded in `_kvspark/quarantine` "
        "inside the output (`quarantine`).",
    )
    max_bad_rows: int | None = Field(
        default=None,
        ge=0,
        description="Fail (exit code 65) and publish nothing if more rows are bad. Without it, any "
        "number may be bad.",
    )
    max_bad_fraction: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="The same, as a fraction of the rows that are read.",
    )

    @field_validator("filter")
    @classmethod
    def _the_filter_keeps_the_same_rows(cls, text: str | None) -> str | None:
        found = None if text is None else varying(text, is_filter=True)
        if found is not None:
            raise ValueError(f"it {varies(*found, is_filter=True)}")
        return text

    @model_validator(mode="after")
    def _a_limit_has_something_to_limit(self) -> Self:
        limits = (self.max_bad_rows, self.max_bad_fraction)
        if self.on_bad_row == "error" and limits != (None, None):
            raise ValueError(
                "max_bad_rows and max_bad_fraction need on_bad_row: null or quarantine; by default the "
                "first bad row fails the run"
            )
        return self
