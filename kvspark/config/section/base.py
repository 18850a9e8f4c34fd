"""The one base class of every conf section, and the types that its fields share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
)
from typing_extensions import Self

from kvspark.config.section.explain import MOST, explain


def _whole_number_as_text(value: object) -> object:
    # A whole number has one spelling, so nothing is lost; 1.10 would come back as 1.1 and is refused.
    return str(value) if type(value) is int else value


Text = Annotated[str, BeforeValidator(_whole_number_as_text)]
"""Text, or a whole number that somebody wrote without quotes (`id: 20260101`)."""

Name = Annotated[Text, Field(min_length=1)]
"""Text of at least one character."""

Texts = Annotated[tuple[Name, ...], Field(strict=False)]
"""A list of texts."""


def list_of_one(value: object) -> object:
    """A text as the list of it."""
    return [value] if isinstance(value, str) else value


class Section(BaseModel):
    """A section of the conf: a frozen plain value that takes no key it does not know."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        # No silent "250" -> 250 or "no" -> False: a conf that is nearly right is wrong.
        strict=True,
        # pydantic prints the offending input otherwise, and it may be a password.
        hide_input_in_errors=True,
        validate_default=True,
    )

    @field_validator("*", mode="wrap")
    @classmethod
    def _of_64_bits(cls, value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        made = handler(value)
        if type(made) is int and abs(made) > MOST:
            raise ValueError(f"expected at most {MOST:,}, got a larger number")
        return made

    @classmethod
    def checked(cls, **values: Any) -> Self:
        """This section of `values`.

        The constructor raises pydantic's ValidationError; code that is not pydantic's calls this.

        Raises:
            UsageError: a value is of the wrong type or out of range, or a key is unknown; one line.
        """
        return cls.check(values)

    @classmethod
    def check(
        cls, values: Mapping[str, Any], origins: Mapping[tuple[str, ...], str] | None = None
    ) -> Self:
        """This section of a mapping; `origins` tells where the value at a path was written.

        Raises:
            UsageError: as `checked`.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as exc:
            raise explain(exc, cls, origins or {}) from None
