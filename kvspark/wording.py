"""How messages say how many and how long: `1 file`, `2 files`, `1,200 look-ups`, `3.5 us`."""

from __future__ import annotations

import re


def count_of(count: int, noun: str) -> str:
    """`count` of what one of is called `noun`, with commas: `count_of(2, "entry")` is `2 entries`."""
    return f"{count:,} {noun if count == 1 else _several(noun)}"


def micros(us: float) -> str:
    """So many microseconds with two digits that count: `12 us`, `1.2 us`.

    Below a twentieth of one it is `< 0.1 us`: a clock is read around some thousand rows, and that is its noise.
    """
    if us < 0.05:
        return "< 0.1 us"
    return f"{us:.1f} us" if us < 10 else f"{us:,.0f} us"


def _several(noun: str) -> str:
    if re.search(r"[^aeiou]y$", noun):
        return f"{noun[:-1]}ies"
    return f"{noun}es" if re.search(r"(s|x|ch|sh)$", noun) else f"{noun}s"
