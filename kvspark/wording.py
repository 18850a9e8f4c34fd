"""How messages say how many: `1 file`, `2 files`, `1,200 look-ups`."""

from __future__ import annotations

import re


def count_of(count: int, noun: str) -> str:
    """`count` of what one of is called `noun`, with commas: `count_of(2, "entry")` is `2 entries`."""
    return f"{count:,} {noun if count == 1 else _several(noun)}"


def _several(noun: str) -> str:
    if re.search(r"[^aeiou]y$", noun):
        return f"{noun[:-1]}ies"
    return f"{noun}es" if re.search(r"(s|x|ch|sh)$", noun) else f"{noun}s"
