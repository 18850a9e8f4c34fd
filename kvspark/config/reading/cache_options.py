"""The `cache` section of a conf as the arguments of `Cache.connect`: each key under its own name."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, final

from kvspark.config.cache import CacheConfig
from kvspark.config.sealing import SealingConfig
from kvspark.config.section.removed import removed_key
from kvspark.errors import UsageError


@final
class CacheOptions(TypedDict, total=False):
    """What `Cache.connect` takes besides the URL and the namespace; `docs/conf.md` says what each means."""

    ttl_s: float
    budget_bytes: int | None
    l1_bytes: int | None
    cold: str | os.PathLike[str] | None
    timeout_ms: int
    overlap_bytes: int | None
    lease_from_ms: float | None
    username: str | None
    password_env: str | None
    password_file: str | os.PathLike[str] | None
    secret_env: str | None
    secret_file: str | os.PathLike[str] | None
    tenant: str | None
    subject: str | None
    sealed: bool | None
    sealing: SealingConfig | Mapping[str, Any]
    tls_ca_file: str | os.PathLike[str] | None
    required: bool
    key_file: str | os.PathLike[str] | None
    """`sealing.key_file`, in short; so are the next two."""
    key_env: str | None
    key_command: Sequence[str]


def cache_config(url: str, namespace: str, options: Mapping[str, Any]) -> CacheConfig:
    """The section that `options` make, paths as text.

    Raises:
        UsageError: an option is unknown, gone, or has a value that the key does not take; one line.
    """
    for name in options:
        if name not in CacheOptions.__annotations__:
            raise UsageError(_unknown(name))
    values = {
        name: os.fspath(value) if isinstance(value, os.PathLike) else value
        for name, value in options.items()
    }
    keys = {name: values.pop(name) for name in SealingConfig.model_fields if name in values}
    if keys and "sealing" in values:
        raise UsageError(f"sealing and {next(iter(keys))} are both given; keep one")
    if keys:
        given = {name: value for name, value in keys.items() if value is not None}
        values["sealing"] = SealingConfig.checked(**given)
    return CacheConfig.checked(url=url, namespace=namespace, **values)


def _unknown(name: str) -> str:
    gone = removed_key(["cache", name])
    if gone is not None:
        return gone
    near = difflib.get_close_matches(name, CacheOptions.__annotations__, n=1)
    advice = f"did you mean {near[0]}?" if near else "docs/conf.md lists the keys of cache"
    return f"Cache.connect takes no {name}; {advice}"
