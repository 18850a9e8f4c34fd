"""`{{ run.date }}` and `{{ run.id }}` in what a job reads and writes.

Anywhere else, and written in another way, they are refused: what stays in a path as it is written names a
folder that nobody meant. A date is never guessed: without one a rerun in the morning would read and write another night than the
run that it repeats. It comes with `--run-date`, or as `run.logical_date` from a scheduler.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from typing import Any, final

from kvspark.errors import UsageError

Trail = tuple[str, ...]

_PLACEHOLDER = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_OPEN = re.compile(r"\{\{|\{\s*run\.\w+")
"""What is left of a placeholder that is not closed, or is written as in another tool."""
_DATE = re.compile(r"run\.date(?:\s*([+-])\s*(\d{1,5})d)?")
_DAY = re.compile(r"(\d{4}-\d{2}-\d{2})(?:[T ].*)?")
_KNOWN = ("run.date", "run.id", "run.date - 1d")
_PLACES: tuple[Trail, ...] = (
    ("input", "paths"),
    ("input", "partitions"),
    ("input", "filter"),
    ("input", "timestamp"),
    ("input", "sql"),
    ("model", "path"),
    ("output", "path"),
    ("inputs",),
)
"""The keys below which placeholders are filled in; Spark's own settings have others, of its own."""


@final
class PlaceholderError(ValueError):
    """A placeholder without a value; `trail` are the keys that lead to it."""

    def __init__(self, trail: Trail, reason: str) -> None:
        super().__init__(reason)
        self.trail = trail


def filled_in(values: Mapping[str, Any]) -> dict[str, Any]:
    """The conf `values` with its placeholders filled in.

    Raises:
        PlaceholderError: a placeholder that nobody knows, one whose value the run does not have, or one
            where none is filled in.
    """
    tree = dict(values)
    run = values.get("run")
    for place in _PLACES:
        _replace(tree, place, (), run if isinstance(run, Mapping) else {})
    for trail, text in _texts(values, ()):
        found = _PLACEHOLDER.search(text)
        if found and found.group(1).strip().startswith("run."):
            raise PlaceholderError(
                trail,
                f"{found.group()} is filled in only in {', '.join('.'.join(place) for place in _PLACES)}; write what it "
                "stands for",
            )
    return tree


def day_of(text: str) -> date:
    """The day of an ISO date, or of an ISO date and time as it is written there.

    Raises:
        ValueError: it is none.
    """
    found = _DAY.fullmatch(text)
    try:
        return date.fromisoformat(found.group(1) if found else "")
    except ValueError:
        raise ValueError(f"{text!r} is no date; write one as 2026-01-31") from None


def checked_day(text: str, what: str) -> str:
    """The day of `text`, as 2026-01-31.

    Raises:
        UsageError: it is none; says so of `what`.
    """
    try:
        return str(day_of(text))
    except ValueError as exc:
        raise UsageError(f"{what}: {exc}") from None


def _replace(tree: dict[str, Any], place: Trail, above: Trail, run: Mapping[str, Any]) -> None:
    key, rest, here = place[0], place[1:], (*above, place[0])
    below = tree.get(key)
    if rest and isinstance(below, Mapping):
        copy = dict(below)
        _replace(copy, rest, here, run)
        tree[key] = copy
    elif not rest and key in tree:
        tree[key] = _filled(below, here, run)


def _filled(value: Any, trail: Trail, run: Mapping[str, Any]) -> Any:
    if isinstance(value, str):
        return _filled_text(value, trail, run)
    if isinstance(value, Mapping):
        return {name: _filled(item, (*trail, str(name)), run) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_filled(item, (*trail, str(n)), run) for n, item in enumerate(value)]
    return value


def _filled_text(text: str, trail: Trail, run: Mapping[str, Any]) -> str:
    left = _OPEN.search(_PLACEHOLDER.sub("", text))
    if left:
        raise PlaceholderError(
            trail,
            f"{left.group()} begins a placeholder and does not end one; write {{{{ run.date }}}} or {{{{ run.id }}}}",
        )
    return _PLACEHOLDER.sub(lambda found: _value(found.group(1).strip(), trail, run), text)


def _texts(value: Any, trail: Trail) -> Iterator[tuple[Trail, str]]:
    """Each text of `value` that stands where nothing is filled in."""
    if trail in _PLACES:
        return
    if isinstance(value, str):
        yield trail, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(item, (*trail, str(key)))
    elif isinstance(value, list | tuple):
        for place, item in enumerate(value):
            yield from _texts(item, (*trail, str(place)))


def _value(name: str, trail: Trail, run: Mapping[str, Any]) -> str:
    if name == "run.id":
        if run.get("id") is None:
            raise PlaceholderError(
                trail,
                "{{ run.id }} has no value: the run has none before its conf is read; give one: "
                "--run-id 2026-01-31",
            )
        return str(run["id"])
    found = _DATE.fullmatch(name)
    if found is None:
        near = difflib.get_close_matches(name, _KNOWN, n=1)
        advice = f"did you mean {{{{ {near[0]} }}}}?" if near else "known: " + ", ".join(_known())
        raise PlaceholderError(trail, f"unknown placeholder {{{{ {name} }}}}; {advice}")
    if run.get("logical_date") is None:
        raise PlaceholderError(
            trail,
            f"{{{{ {name} }}}} has no value: the run has no date; give one, the same for a rerun: "
            "--run-date 2026-01-31, or run.logical_date",
        )
    try:
        day = day_of(str(run["logical_date"]))
    except ValueError as exc:
        raise PlaceholderError(("run", "logical_date"), str(exc)) from None
    sign, days = found.groups()
    try:
        return str(day + timedelta(days=int(days or 0) * (-1 if sign == "-" else 1)))
    except OverflowError:
        raise PlaceholderError(trail, f"{{{{ {name} }}}} of {day} is no date") from None


def _known() -> Iterator[str]:
    yield from (f"{{{{ {name} }}}}" for name in _KNOWN)
