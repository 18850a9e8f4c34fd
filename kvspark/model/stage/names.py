"""Lists of names that a caller gives."""

from __future__ import annotations

from collections.abc import Iterable

from kvspark.errors import UsageError


def names_of(argument: str, given: Iterable[str]) -> list[str]:
    """The names in `given`, which the caller gave as `argument`.

    Raises:
        UsageError: it is one text, whose letters nobody meant as names.
    """
    if isinstance(given, str):
        raise UsageError(
            f"{argument} is a list of names, got the text {given!r}; write [{given!r}]"
        )
    return list(given)
