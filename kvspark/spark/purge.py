"""The `purge` command: what its options ask for, and what is told of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from kvspark.cache.cache import Cache
from kvspark.cache.purge import Purge, Purged
from kvspark.config.job import JobConfig
from kvspark.errors import CacheRequiredError, UsageError
from kvspark.infer.erasure import identities_of_rows, read_rows, read_subjects
from kvspark.infer.subject import subject_bytes
from kvspark.model.bundle import Bundle
from kvspark.spark.job import open_model

_SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}


def run_purge(
    config: JobConfig,
    *,
    rows: Path | None = None,
    subjects: Path | None = None,
    model: Path | None = None,
    age: str | None = None,
) -> str:
    """What was removed from the cache of `config`, as a line; one of the four must be given.

    Raises:
        UsageError: none or several are given, or the conf has no cache.
        CacheRequiredError: the store does not answer, or entries are left.
        SecretError: the user may not look for entries or remove them.
    """
    if sum(each is not None for each in (rows, subjects, model, age)) != 1:
        raise UsageError("purge takes one of --input, --subject, --model and --older-than")
    if config.cache is None:
        raise UsageError("the conf names no cache; there is nothing to purge")
    with closing(Cache.from_config(config.cache)) as cache:
        done = _purged(cache.purge(), config, rows, subjects, model, age)
    if done.left:
        raise CacheRequiredError(
            f"{done.entries} entries were removed and {done.left} are there again: a run is under way; "
            "run the purge once more when it has ended"
        )
    others = f", {done.of_others} of them made by other machines" if done.of_others else ""
    return f"removed {done.entries} entries{others}; looked again: none is left"


def _purged(
    purge: Purge,
    config: JobConfig,
    rows: Path | None,
    subjects: Path | None,
    model: Path | None,
    age: str | None,
) -> Purged:
    assert config.cache is not None
    if subjects is not None:
        if config.cache.subject is None:
            raise UsageError(
                "the conf binds no entries to subjects; cache.subject names the column that says whose "
                "row it is, or purge with --input"
            )
        return purge.subjects(subject_bytes(read_subjects(subjects)))
    if age is not None:
        return purge.older_than(int(datetime.now(timezone.utc).timestamp()) - _age_s(age))
    if model is not None:
        # In the conf's shapes, which are part of a fingerprint: others would remove nothing and say so.
        settings = config.model.model_copy(update={"path": str(model)})
        opened = open_model(config.model_copy(update={"model": settings}))
        bundles = _on_every_device(opened.bundle)
        return purge.stages([stage.fingerprint for each in bundles for stage in each.stages])
    assert rows is not None
    values = read_rows(rows)
    whose = _subjects_of(values, config.cache.subject)
    identities: dict[bytes, list[bytes]] = {}
    for each in _on_every_device(open_model(config).bundle):
        identities |= identities_of_rows(each, values)
    return purge.rows(identities, whose)


def _subjects_of(values: Mapping[str, list[Any]], name: str | None) -> list[bytes] | None:
    """Of whom each row is, where entries are bound to subjects; `name` is what rows call it."""
    if name is None:
        return None
    if name not in values:
        raise UsageError(
            f"entries are bound to {name!r} (cache.subject), which the rows to purge need beside the "
            "inputs; --subject erases all of a subject"
        )
    return subject_bytes(["" if each is None else str(each) for each in values[name]])


def _on_every_device(bundle: Bundle) -> list[Bundle]:
    """`bundle`, and as it is where Spark gives GPUs to a job that chose no device."""
    return [bundle] if bundle.device is not None else [bundle, bundle.with_device("cuda")]


def _age_s(text: str) -> int:
    found = re.fullmatch(r"(\d{1,6})([dhms])", text)
    if found is None:
        raise UsageError(f"--older-than is {text!r}; write for example 30d, 12h or 90m")
    return int(found[1]) * _SECONDS[found[2]]
