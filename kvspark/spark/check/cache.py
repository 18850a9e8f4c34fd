"""Whether the cache of a job can be used, asked without leaving anything in it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from kvspark.cache.cache import Cache
from kvspark.cache.doctor.finding import Finding
from kvspark.cache.seal.keyring import KeyRing
from kvspark.config.cache import CacheConfig
from kvspark.config.job import RunConfig
from kvspark.errors import CacheRequiredError, KvsparkError, SecretError, UsageError

_EMBEDDED = "embedded:"

Found = Iterator[tuple[Finding, KvsparkError | None]]


def cache_findings(config: CacheConfig, run: RunConfig) -> Found:
    """Keys and secrets, then the store; nothing is written to it, and no server is started.

    A store that does not answer is a warning, because a job runs without it, unless it is required.
    """
    is_right = True
    for what, read in _secrets(config):
        error = _refused(read)
        if error is not None:
            is_right = False
            yield Finding("bad", what, error.line()), error
    if not is_right:
        return
    if config.url.startswith(_EMBEDDED):
        yield _embedded(Path(config.url.removeprefix(_EMBEDDED))), None
        return
    try:
        trouble = _trouble(config)
    except (SecretError, UsageError, CacheRequiredError) as error:
        yield Finding("bad", "cache", error.line()), error
        return
    if trouble is None:
        yield Finding("ok", "cache", f"{config.url} answers"), None
    elif run.require_cache:
        required = CacheRequiredError(
            f"the cache {config.url} was required and is not usable ({trouble}); start it or leave "
            "run.require_cache out"
        )
        yield Finding("bad", "cache", required.line()), required
    else:
        yield (
            Finding("warn", "cache", f"{config.url} is not usable ({trouble}): rows are computed"),
            None,
        )


def _secrets(config: CacheConfig) -> Iterator[tuple[str, Callable[[], object]]]:
    yield "password", config.password
    yield "namespace secret", config.secret
    if config.is_sealed and config.sealing.is_named:
        yield "sealing keys", lambda: KeyRing(config.sealing).keys()


def _refused(read: Callable[[], object]) -> SecretError | None:
    try:
        read()
    except SecretError as error:
        return error
    return None


def _embedded(path: Path) -> Finding:
    """A server would be started on the folder, and would write to it."""
    there = next(
        folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists()
    )
    if not os.access(there, os.W_OK):
        return Finding("warn", "cache", f"{there} cannot be written: rows are computed")
    state = "is there" if path.exists() else "will be made"
    return Finding("ok", "cache", f"the folder {path} {state}; its server was not started")


def _trouble(config: CacheConfig) -> str | None:
    # Tiers would write what they read to the faster one.
    with closing(
        Cache.from_config(config.model_copy(update={"cold": None, "l1_bytes": None}))
    ) as cache:
        return cache.check(tries_writing=False)
