"""Conf file, then environment, then `--set`: the later one wins, value by value.

A value of the environment or of `--set` is written as in YAML: `KVSPARK__CACHE__TTL_S=3600`,
`--set input.paths=[a, b]`; nothing stands for null. A mapping that is set as a whole replaces the
one in the file. Relative paths in the file begin in its folder, others in the working directory. The keys of free mappings keep their case and may hold dots:
`--set spark.conf.spark.executor.memory=4g`, `KVSPARK__INPUT__PARTITIONS__dt=2026-01-01`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, final

from pydantic import BaseModel

from kvspark.config.inputs import InputColumns
from kvspark.config.job import JobConfig
from kvspark.config.placeholders import checked_day
from kvspark.config.reading.document import Trail, parse_document, read_document
from kvspark.config.reading.relative import based_on
from kvspark.config.section.explain import is_mapping, origin_of, section_at, section_in
from kvspark.config.section.secret import has_password
from kvspark.errors import UsageError

ENVIRONMENT_PREFIX = "KVSPARK__"

_SECRET_KEYS = frozenset(
    {"password", "passwd", "pwd", "passphrase", "secret", "token", "api_key", "access_key"}
)


@final
@dataclass(frozen=True, slots=True)
class Override:
    """One value that replaces what the conf file says."""

    origin: str
    """What a person wrote, without the value: it may be a secret."""
    parts: tuple[str, ...]
    value: Any


def load_job_config(
    path: str | Path, *, sets: Sequence[str] = (), environ: Mapping[str, str] | None = None
) -> JobConfig:
    """The job that the conf file `path` describes, after the environment and `sets` ("a.b=c").

    Raises:
        UsageError: the file cannot be read, a key is unknown, a value is wrong, or a secret was
            written out; one line that says where.
    """
    document = read_document(Path(path))
    if not isinstance(document.value, dict | None):
        raise UsageError(f"{path}: a conf file is a mapping of keys to values")
    tree: dict[str, Any] = document.value or {}
    origins = {trail: f"{path} line {line}" for trail, line in document.lines.items()}
    origins[()] = str(path)
    in_file = frozenset(origins.values())
    _override_all(tree, origins, sets, environ)
    based_on(Path(path).parent, tree, lambda trail: _origin(trail, origins) in in_file)
    return JobConfig.check(tree, origins)


def job_config(
    conf: str | Path | Mapping[str, Any] | JobConfig,
    *,
    sets: Sequence[str] = (),
    run_date: str | date | None = None,
    environ: Mapping[str, str] | None = None,
) -> JobConfig:
    """The job that `conf` is: a file as of `load_job_config`, a mapping with the same keys, or the value itself.

    A mapping is not changed; paths in it may be `pathlib.Path`, dates `datetime.date`.

    Raises:
        UsageError: as `load_job_config`; `sets` or a date are given for a value that is complete.
    """
    if run_date is not None:
        sets = [*sets, f"run.logical_date={json.dumps(checked_day(str(run_date), 'run_date'))}"]
    if isinstance(conf, JobConfig):
        if sets:
            raise UsageError(
                "a JobConfig is complete: sets and run_date are for a conf file or a dict"
            )
        return conf
    if not isinstance(conf, Mapping):
        return load_job_config(conf, sets=sets, environ=environ)
    tree = _plain(conf)
    origins: dict[Trail, str] = {(): "conf"}
    _override_all(tree, origins, sets, environ)
    return JobConfig.check(tree, origins)


def _override_all(
    tree: dict[str, Any],
    origins: dict[Trail, str],
    sets: Sequence[str],
    environ: Mapping[str, str] | None,
) -> None:
    environment = os.environ if environ is None else environ
    for override in (*environment_overrides(environment), *set_overrides(sets)):
        _apply(tree, origins, override)
    _refuse_secrets(tree, (), origins)


def _plain(value: Any) -> Any:
    """A copy of `value` with the types that a conf file has."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value.isoformat() if isinstance(value, date) else value


def _origin(trail: Trail, origins: Mapping[Trail, str]) -> str:
    return origin_of(trail, origins).removesuffix(": ")


def environment_overrides(environ: Mapping[str, str]) -> Iterator[Override]:
    """The variables that start with `KVSPARK__`, sorted by name."""
    for name in sorted(environ):
        if name.startswith(ENVIRONMENT_PREFIX):
            parts = tuple(name.removeprefix(ENVIRONMENT_PREFIX).split("__"))
            yield _override(f"environment variable {name}", parts, environ[name])


def set_overrides(sets: Sequence[str]) -> Iterator[Override]:
    """The `a.b=c` of each `--set`, in the order in which they were given."""
    for text in sets:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise UsageError("--set takes KEY=VALUE, for example --set cache.ttl_s=3600")
        yield _override(f"--set {key.strip()}", tuple(key.strip().split(".")), value)


def _override(origin: str, parts: tuple[str, ...], text: str) -> Override:
    if not all(parts):
        raise UsageError(f"{origin}: a part of the key is empty")
    return Override(origin, parts, parse_document(text, origin).value)


def trail_of(parts: Sequence[str], value: object, section: type[BaseModel]) -> Trail:
    """The keys that `parts` name in `section`: known keys in any case, free ones as they are."""
    if not parts:
        return ()
    first, rest = parts[0], parts[1:]
    name = first if first in section.model_fields else first.lower()
    field = section.model_fields.get(name)
    if field is None:
        return (name, *rest)
    inner = section_in(field.annotation)
    if is_mapping(field.annotation):
        return (name, *_free_keys(rest, value, inner))
    return (name, *(trail_of(rest, value, inner) if inner else rest))


def _free_keys(parts: Sequence[str], value: object, inner: type[BaseModel] | None) -> Trail:
    # A free key may hold dots: a column, a stage at a module path, a Spark setting.
    is_whole = isinstance(value, dict) or (
        inner is InputColumns and parts[-1] not in inner.model_fields
    )
    if inner is not None and len(parts) > 1 and not is_whole:
        return (".".join(parts[:-1]), *trail_of(parts[-1:], value, inner))
    return (".".join(parts),) if parts else ()


def _apply(tree: dict[str, Any], origins: dict[Trail, str], override: Override) -> None:
    trail = trail_of(override.parts, override.value, JobConfig)
    node = tree
    for depth, key in enumerate(trail[:-1], start=1):
        child = node.get(key)
        if trail[:depth] == ("cache",) and isinstance(child, str):
            child = {"url": child}
        if child is None:
            child = {}
        if not isinstance(child, dict):
            raise UsageError(
                f"{override.origin}: {'.'.join(trail[:depth])} is one value and has no keys; "
                "set it as a whole"
            )
        node[key] = child
        node = child
    node[trail[-1]] = override.value
    for older in [old for old in origins if old[: len(trail)] == trail]:
        del origins[older]
    origins[trail] = override.origin


def _refuse_secrets(node: object, trail: Trail, origins: Mapping[Trail, str]) -> None:
    if isinstance(node, dict):
        for key, child in node.items():
            if key.lower() in _SECRET_KEYS and section_at(JobConfig, trail) is not None:
                dotted = ".".join((*trail, key))
                raise UsageError(
                    f"{origin_of((*trail, key), origins)}{dotted}: a secret is not written in a conf; name the "
                    "environment variable or the file that holds it, as cache.password_env or "
                    "cache.password_file do"
                )
            _refuse_secrets(child, (*trail, key), origins)
    elif isinstance(node, list):
        for index, child in enumerate(node):
            _refuse_secrets(child, (*trail, str(index)), origins)
    elif isinstance(node, str) and has_password(node):
        raise UsageError(
            f"{origin_of(trail, origins)}{'.'.join(trail)}: a URL with a password in it is refused, "
            "it would end up in logs; name the environment variable or the file that holds it, as "
            "cache.password_env or cache.password_file do"
        )
