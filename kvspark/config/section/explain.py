"""pydantic's findings as one line: where, what it got, what it expected, what to do next.

Only the type of what was found is told, never the value: it may be a secret.
"""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from kvspark.config.section.removed import removed_key
from kvspark.errors import UsageError

MOST = 2**63 - 1
"""The largest whole number of a conf; Spark, Redis and files hold no larger one."""

_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "string_too_short": "text that is not empty",
    "too_short": "something that is not empty",
}

_BOUNDS = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}

_TYPE_WORDS: Sequence[tuple[type, str]] = (
    (bool, "true or false"),
    (str, "text"),
    (Mapping, "a mapping"),
    (list, "a list"),
    (tuple, "a list"),
    (type(None), "nothing"),
)


def explain(
    error: ValidationError, section: type[BaseModel], origins: Mapping[tuple[str, ...], str]
) -> UsageError:
    """The first finding as a UsageError of one line, and how many more there are."""
    # An unknown key goes first: it is often the misspelled form of one that is then missing.
    findings = sorted(error.errors(include_url=False), key=lambda f: f["type"] != "extra_forbidden")
    first = findings[0]
    # A validator of the whole conf says itself what it is about.
    said = getattr(first.get("ctx", {}).get("error"), "trail", first["loc"])
    path = tuple(str(part) for part in said)
    more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
    return UsageError(f"{origin_of(path, origins)}{_sentence(first, path, section)}{more}")


def unknown_key(path: Sequence[str], section: type[BaseModel]) -> str:
    """What to say of a key that no section has: what replaced it, else its path and the nearest known key."""
    removed = removed_key(path)
    if removed is not None:
        return removed
    *parents, key = path
    owner = section_at(section, parents)
    known = sorted(owner.model_fields) if owner else []
    dotted = ".".join(path)
    if path in (("cache", "embedded"), ("cache", "memory")):
        return f'{dotted}: a URL stands in one piece, without a space behind the colon; write cache: "{key}:..."'
    near = difflib.get_close_matches(key, known, n=1)
    if near:
        return f"unknown key {dotted}; did you mean {'.'.join([*parents, near[0]])}?"
    elsewhere = {known_path.rsplit(".", 1)[-1]: known_path for known_path in paths(section)}
    near = difflib.get_close_matches(key, sorted(elsewhere), n=1, cutoff=0.75)
    if near:
        return f"unknown key {dotted}; did you mean {elsewhere[near[0]]}?"
    place = ".".join(parents) or "the top level"
    return f"unknown key {dotted}; {place} takes {', '.join(known) or 'no keys'}"


def section_at(section: type[BaseModel], path: Sequence[str]) -> type[BaseModel] | None:
    """The section that is found at `path`, None where there is none."""
    current: type[BaseModel] | None = section
    inside_mapping = False
    for part in path:
        if inside_mapping:
            # The keys of a mapping of sections are free; the next part is a field again.
            inside_mapping = False
            continue
        if part.isdigit():
            # A place in a list of sections.
            continue
        field = current.model_fields.get(part) if current else None
        if field is None:
            return None
        current = section_in(field.annotation)
        inside_mapping = is_mapping(field.annotation)
    return current


def section_in(annotation: Any) -> type[BaseModel] | None:
    """The section inside `X`, `X | None` or `dict[str, X]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in typing.get_args(annotation):
        found = section_in(argument)
        if found is not None:
            return found
    return None


def is_mapping(annotation: Any) -> bool:
    """True for `dict[str, X]`, with or without `| None`."""
    candidates = (annotation, *typing.get_args(annotation))
    return any(typing.get_origin(candidate) is dict for candidate in candidates)


def is_list(annotation: Any) -> bool:
    """True for a list of sections, with or without `| None`."""
    if typing.get_origin(annotation) is tuple:
        return section_in(annotation) is not None
    return any(is_list(argument) for argument in typing.get_args(annotation))


def paths(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The dotted path of every key; a free key of a mapping is written `<name>`."""
    for name, field in section.model_fields.items():
        inner = section_in(field.annotation)
        if inner is None or is_list(field.annotation):
            yield f"{prefix}{name}"
        else:
            free = ".<name>" if is_mapping(field.annotation) else ""
            yield from paths(inner, f"{prefix}{name}{free}.")


def origin_of(path: Sequence[str], origins: Mapping[tuple[str, ...], str]) -> str:
    """Where the value at `path`, or the section around it, was written: "score.yaml line 7: "."""
    for end in range(len(path), -1, -1):
        origin = origins.get(tuple(path[:end]))
        if origin is not None:
            return f"{origin}: "
    return ""


def _sentence(finding: Any, path: tuple[str, ...], section: type[BaseModel]) -> str:
    kind, dotted = finding["type"], ".".join(path)
    if len(path) > 1 and _is_one_of_several(path, section):
        return f"{'.'.join(path[:-1])}: expected one value, got {_got(finding['input'])}"
    if kind == "extra_forbidden":
        return unknown_key(path, section)
    if kind == "missing":
        return f"{dotted} is missing{_meaning(path, section)}"
    if kind == "value_error":
        reason = str(finding["ctx"]["error"])
        return f"{dotted}: {reason}" if dotted else reason
    expected = _expected(finding)
    return f"{dotted}: expected {expected}, got {_got(finding['input'])}{_advice(finding)}"


def _is_one_of_several(path: Sequence[str], section: type[BaseModel]) -> bool:
    """True if the last part of `path` is no key: pydantic puts the type that it tried there."""
    owner = section_at(section, path[:-2])
    field = owner.model_fields.get(path[-2]) if owner else None
    kinds = typing.get_args(field.annotation) if field else ()
    return path[-1] in {kind.__name__ for kind in kinds if isinstance(kind, type)} - {
        "dict",
        "list",
    }


def _expected(finding: Any) -> str:
    kind, context = finding["type"], finding.get("ctx", {})
    if kind in _EXPECTED:
        return _EXPECTED[kind]
    if kind in _BOUNDS:
        words, key = _BOUNDS[kind]
        return f"{words} {context[key]:g}"
    if kind == "literal_error":
        return f"one of {context['expected']}"
    return str(finding["msg"])


def _got(value: object) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        # A number cannot be a secret, and saying it makes a bound clear.
        return f"{value:g}" if isinstance(value, float) or abs(value) <= MOST else "a larger number"
    words = (word for kind, word in _TYPE_WORDS if isinstance(value, kind))
    return next(words, type(value).__name__)


def _advice(finding: Any) -> str:
    value = finding["input"]
    if finding["type"] == "string_type" and isinstance(value, bool | float):
        return "; write it in quotes"
    if finding["type"] == "tuple_type" and isinstance(value, str):
        return "; write [a, b]"
    if finding["type"] in {"int_type", "float_type", "bool_type"} and isinstance(value, str):
        return "; write it without quotes or units"
    return ""


def _meaning(path: Sequence[str], section: type[BaseModel]) -> str:
    owner = section_at(section, path[:-1])
    field = owner.model_fields.get(path[-1]) if owner else None
    meaning = field.description if field and field.description else ""
    return f": {meaning[0].lower()}{meaning[1:].rstrip('.')}" if meaning else ""
