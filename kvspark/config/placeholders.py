"""`{{ run.date }}` and `{{ run.id }}` in what a job reads and writes.

A date is never guessed: without one a rerun in the morning would read and write another night than the
run that it repeats. It comes with `--run-date`, or as `run.logical_date` from a scheduler.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from typing import Any

_PLACEHOLDER = re.compile(r"\{\{(.*?)\}\}")
_DATE = re.compile(r"run\.date(?:\s*([+-])\s*(\d{1,5})d)?")
_DAY = re.compile(r"(\d{4}-\d{2}-\d{2})(?:[T ].*)?")
_KNOWN = ("run.date", "run.id", "run.date - 1d")
_PLACES = (
    ("input", "paths"),
    ("input", "partitions"),
    ("input", "filter"),
    ("model", "path"),
    ("output", "path"),
    ("inputs",),
)
"""The keys below which placeholders are filled in; Spark's own settings have others, of its own."""


def filled_in(values: Mapping[str, Any]) -> dict[str, Any]:
    """The conf `values` with its placeholders filled in.

    Raises:
        ValueError: a placeholder that nobody knows, or one whose value the run does not have.
    """
    tree = dict(values)
    run = values.get("run")
    for place in _PLACES:
        _replace(tree, place, run if isinstance(run, Mapping) else {})
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


def _replace(tree: dict[str, Any], place: tuple[str, ...], run: Mapping[str, Any]) -> None:
    key, rest = place[0], place[1:]
    below = tree.get(key)
    if rest and isinstance(below, Mapping):
        copy = dict(below)
        _replace(copy, rest, run)
        tree[key] = copy
    elif not rest and key in tree:
        tree[key] = _filled(below, key, run)


def _filled(value: Any, key: str, run: Mapping[str, Any]) -> Any:
    if isinstance(value, str):
        return _PLACEHOLDER.sub(lambda found: _value(found.group(1).strip(), key, run), value)
    if isinstance(value, Mapping):
        return {name: _filled(item, key, run) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_filled(item, key, run) for item in value]
    return value


def _value(name: str, key: str, run: Mapping[str, Any]) -> str:
    if name == "run.id":
        if run.get("id") is None:
            raise ValueError(
                f"{key} takes {{{{ run.id }}}}, and the run has none before its conf is read; give one: "
                "--run-id 2026-01-31"
            )
        return str(run["id"])
    found = _DATE.fullmatch(name)
    if found is None:
        near = difflib.get_close_matches(name, _KNOWN, n=1)
        advice = f"did you mean {{{{ {near[0]} }}}}?" if near else "known: " + ", ".join(_known())
        raise ValueError(f"{key}: unknown placeholder {{{{ {name} }}}}; {advice}")
    if run.get("logical_date") is None:
        raise ValueError(
            f"{key} takes {{{{ {name} }}}}, and the run has no date; give one, the same for a rerun: "
            "--run-date 2026-01-31, or run.logical_date"
        )
    day = day_of(str(run["logical_date"]))
    sign, days = found.groups()
    try:
        return str(day + timedelta(days=int(days or 0) * (-1 if sign == "-" else 1)))
    except OverflowError:
        raise ValueError(f"{key}: {{{{ {name} }}}} of {day} is no date") from None


def _known() -> Iterator[str]:
    yield from (f"{{{{ {name} }}}}" for name in _KNOWN)
