"""The `cache.sealing` section: where the keys are that entries are sealed with, never the keys."""

from __future__ import annotations

import os
from typing import final

from pydantic import Field, model_validator
from typing_extensions import Self

from kvspark.config.section.base import Name, Section, Texts
from kvspark.config.section.secret import resolve_secret, secret_from_command

KEY_ENV = "KVSPARK_SEALING_KEYS"
"""The environment variable that holds the keys where the conf names no other place."""


@final
class SealingConfig(Section):
    """Where driver and executors read the keys from, each for itself; at most one of the three."""

    key_file: Name | None = Field(
        default=None,
        description="The file that holds the keys, on driver and executors; `kvspark keygen FILE` "
        "makes one. It is read again when it changes, so keys are rotated without a restart.",
    )
    key_env: Name | None = Field(
        default=None,
        description="The environment variable that holds the text of such a file; "
        f"`{KEY_ENV}` where none of the three is named.",
    )
    key_command: Texts = Field(
        default=(),
        description="A program and its arguments, without a shell, that prints the text of such a "
        "file; run once in each process.",
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        named = [self.key_file, self.key_env, self.key_command or None]
        if sum(place is not None for place in named) > 1:
            raise ValueError("key_file, key_env and key_command: keep one")
        return self

    @property
    def is_named(self) -> bool:
        """True if there is a place to read keys from."""
        return bool(self.key_file or self.key_env or self.key_command or KEY_ENV in os.environ)

    def explicit(self) -> Self:
        """This section with the place written out, so that it is the same on every executor."""
        if self.key_file or self.key_env or self.key_command:
            return self
        return self.model_copy(update={"key_env": KEY_ENV})

    def text(self) -> bytes:
        """The text of the keys, read now.

        Raises:
            SecretError: it cannot be read.
        """
        if self.key_command:
            return secret_from_command(self.key_command)
        if self.key_file:
            return resolve_secret(file=self.key_file) or b""
        return resolve_secret(env=self.key_env or KEY_ENV) or b""
