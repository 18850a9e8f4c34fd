"""Errors that name keys of a conf, said to somebody who wrote Python."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from kvspark.config.cache import CacheConfig
from kvspark.config.model import ModelConfig
from kvspark.config.sealing import SealingConfig
from kvspark.config.section.removed import REMOVED
from kvspark.errors import SchemaError, SecretError, UsageError

_REMOVED_OF_CACHE = tuple(key.removeprefix("cache.") for key in REMOVED if key.startswith("cache."))
_KEYS = {
    "cache": (*CacheConfig.model_fields, *SealingConfig.model_fields, *_REMOVED_OF_CACHE),
    "model": tuple(ModelConfig.model_fields),
}
_KEY = re.compile(
    "|".join(
        rf"\b{section}\.(?:sealing\.)?({'|'.join(names)})\b(?!\.|:\d)"
        for section, names in _KEYS.items()
    )
)
"""The keys themselves, and not a host that is called `cache.internal`."""
_VALUE = re.compile(r"\b([a-z_]+)=(true|false)\b")


@contextmanager
def named_as_arguments() -> Iterator[None]:
    """What is raised inside names arguments (`key_file`) where it would name keys of a conf (`cache.sealing.key_file`).

    Raises:
        UsageError, SecretError, SchemaError: as they were raised, in those words.
    """
    try:
        yield
    except (UsageError, SecretError, SchemaError) as exc:
        said = as_arguments(str(exc))
        if said == str(exc):
            raise
        raise type(exc)(said) from exc.__cause__


def as_arguments(text: str) -> str:
    """`text` with the names and values that Python has."""
    return _VALUE.sub(
        lambda found: f"{found[1]}={found[2].title()}",
        _KEY.sub(lambda found: found[found.lastindex or 0], text),
    )
