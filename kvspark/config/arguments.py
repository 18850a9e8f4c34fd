"""Errors that name keys of a conf, said to somebody who wrote Python."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from kvspark.errors import SecretError, UsageError

_KEY = re.compile(r"\b(?:cache|input|model)\.(?:sealing\.)?([a-z_]+)\b")
_VALUE = re.compile(r"\b([a-z_]+)=(true|false)\b")


@contextmanager
def named_as_arguments() -> Iterator[None]:
    """What is raised inside names arguments (`key_file`) where it would name keys of a conf (`cache.sealing.key_file`).

    Raises:
        UsageError, SecretError: as they were raised, in those words.
    """
    try:
        yield
    except (UsageError, SecretError) as exc:
        said = as_arguments(str(exc))
        if said == str(exc):
            raise
        raise type(exc)(said) from exc.__cause__


def as_arguments(text: str) -> str:
    """`text` with the names and values that Python has."""
    return _VALUE.sub(lambda found: f"{found[1]}={found[2].title()}", _KEY.sub(r"\1", text))
