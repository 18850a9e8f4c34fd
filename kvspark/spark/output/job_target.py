"""The target of a job, as its conf has it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from kvspark.config.job import JobConfig
from kvspark.errors import UsageError
from kvspark.spark.output.target import Target
from kvspark.spark.tables.paths import local_path


def target_of(config: JobConfig, *, inputs: Sequence[Path] = ()) -> Target:
    """The target of `config`, whose rows come from `inputs`.

    Raises:
        UsageError, OutputError: as `Target`.
    """
    return Target(
        config.output.path,
        owner=config.run.name,
        inputs=inputs,
        needed=list(_needed(config)),
        overwrite=config.output.overwrite,
        keep=config.output.keep,
    )


def _needed(config: JobConfig) -> Iterator[Path]:
    """The local files and folders, of those that exist, which the job opens by their names."""
    named: list[str | None] = [config.model.path]
    if config.cache is not None:
        cache = config.cache
        scheme, _, place = cache.url.partition(":")
        named += [place if scheme == "embedded" else None, cache.cold]
        named += [cache.password_file, cache.secret_file, cache.sealing.key_file, cache.tls_ca_file]
    for name in named:
        try:
            path = local_path(name, what="path") if name else None
        except UsageError:  # a registry's or an object store's
            continue
        if path is not None and path.exists():
            yield path
