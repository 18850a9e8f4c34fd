"""The `purge` command: what its options ask for, and what is told of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from kvspark.cache.cache import Cache
from kvspark.cache.doctor.finding import size_text
from kvspark.cache.namespace.namespace_stats import Stock, Stocks
from kvspark.cache.namespace.purge import Purge, Purged
from kvspark.config.job import JobConfig
from kvspark.errors import CacheRequiredError, UsageError
from kvspark.infer.erasure import identities_of_rows, read_rows, read_subjects
from kvspark.infer.rows.subject import subject_bytes
from kvspark.model.bundle.bundle import Bundle
from kvspark.spark.check.opened import open_model, plan_of
from kvspark.wording import count_of

_SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}


def run_purge(
    config: JobConfig,
    *,
    rows: Path | None = None,
    subjects: Path | None = None,
    model: Path | None = None,
    age: str | None = None,
    is_dry: bool = False,
    tell: Callable[[str], None],
) -> None:
    """Tells what will be removed from the cache of `config`, removes it unless `is_dry`, and tells what was.

    One of `rows`, `subjects`, `model` and `age` must be given.

    Raises:
        UsageError: none or several are given, or the conf has no cache.
        CacheRequiredError: the store does not answer, or entries are left.
        SecretError: the user may not look for entries or remove them.
    """
    if sum(each is not None for each in (rows, subjects, model, age)) != 1:
        raise UsageError("purge takes one of --input, --subject, --model and --older-than")
    if config.cache is None:
        raise UsageError("the conf names no cache; there is nothing to purge")
    if subjects is not None:
        _refuse_unbound(config.cache.subject)
    before_s = None if age is None else _now_s() - _age_s(age)
    fingerprints = None if model is None else _fingerprints(config, model)
    with closing(Cache.from_config(config.cache)) as cache:
        registry = cache.registry()
        if rows is None and subjects is None:
            tell(_foretold(registry.stocks(), fingerprints, before_s))
        if is_dry:
            tell("nothing was removed")
            return
        if rows is not None or subjects is not None:
            tell(
                "until every running job knows what may not come back: a bit more than a minute ..."
            )
        done = _purged(cache.purge(), config, rows, subjects, fingerprints, before_s)
        if rows is None and subjects is None:
            registry.remove(fingerprints, before_s)
    if done.left:
        raise CacheRequiredError(
            f"{count_of(done.entries, 'entry')} removed and {done.left:,} there again: a run is under way; "
            "run the purge once more when it has ended"
        )
    others = f", {done.of_others:,} of them made by other machines" if done.of_others else ""
    tell(f"removed {count_of(done.entries, 'entry')}{others}; looked again: none is left")


def _refuse_unbound(subject: str | None) -> None:
    if subject is None:
        raise UsageError(
            "the conf binds no entries to subjects; nothing was removed, name the column that says whose row it is as "
            "cache.subject, or purge with --input"
        )


def _foretold(stocks: Stocks | None, fingerprints: list[bytes] | None, before_s: int | None) -> str:
    """What a purge will free, as far as runs have told."""
    if stocks is None:
        return "the store does not say what runs have written"
    chosen = [
        stock
        for fingerprint, stock in stocks.items()
        if fingerprints is None or fingerprint in fingerprints
    ]
    if before_s is None:
        return f"of these, runs have written about {_amount(chosen)}"
    # What a day wrote is known, and not at what hour.
    most = [each.older_than(before_s + _SECONDS["d"]) for each in chosen]
    least = most if before_s >= _now_s() else [each.older_than(before_s) for each in chosen]
    if _amount(least) == _amount(most):
        return f"of these, runs have written about {_amount(most)}"
    return (
        f"of these, runs have written at least {_amount(least)} and at most {_amount(most)}: of the day on "
        "which that age begins the hours are not known"
    )


def _amount(parts: Sequence[Stock]) -> str:
    size_bytes = sum(each.size_bytes for each in parts)
    return f"{count_of(sum(each.entries for each in parts), 'entry')} ({size_text(size_bytes)})"


def _now_s() -> int:
    return int(datetime.now(timezone.utc).timestamp())


def _purged(
    purge: Purge,
    config: JobConfig,
    rows: Path | None,
    subjects: Path | None,
    fingerprints: list[bytes] | None,
    before_s: int | None,
) -> Purged:
    assert config.cache is not None
    if subjects is not None:
        return purge.subjects(subject_bytes(read_subjects(subjects)))
    if before_s is not None:
        return purge.older_than(before_s)
    if fingerprints is not None:
        return purge.stages(fingerprints)
    assert rows is not None
    values = read_rows(rows)
    whose = _subjects_of(values, config.cache.subject)
    identities: dict[bytes, list[bytes]] = {}
    for each in _on_every_device(open_model(config).bundle):
        identities |= identities_of_rows(each, values, plan_of(config, each))
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


def _fingerprints(config: JobConfig, model: Path) -> list[bytes]:
    # In the conf's shapes, which are part of a fingerprint: others would remove nothing and say so.
    settings = config.model.model_copy(update={"path": str(model)})
    opened = open_model(config.model_copy(update={"model": settings}))
    bundles = _on_every_device(opened.bundle)
    return [stage.fingerprint for each in bundles for stage in each.stages]


def _on_every_device(bundle: Bundle) -> list[Bundle]:
    """`bundle`, and as it is where Spark gives GPUs to a job that chose no device."""
    return [bundle] if bundle.device is not None else [bundle, bundle.with_device("cuda")]


def _age_s(text: str) -> int:
    found = re.fullmatch(r"(\d{1,6})([dhms])", text)
    if found is None:
        raise UsageError(f"--older-than is {text!r}; write for example 30d, 12h or 90m")
    return int(found[1]) * _SECONDS[found[2]]
