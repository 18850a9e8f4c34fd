"""An index that is outside what it is looked up in, in words."""

from __future__ import annotations

_FAR = 4
"""A number is said if it is less than so many tables away: it is a slip of the model's own numbering (-1, a
token of another vocabulary). One that is farther off may be anything that somebody wrote into the column, and
errors are logged."""


def outside_words(index: int, low: int, size: int) -> str:
    """Says that `index` is not from `low` to `size` - 1."""
    span = f"{low}..{size - 1}"
    if -_FAR * size <= index < _FAR * size:
        return f"id {index} outside {span}"
    return f"an id far {'below' if index < 0 else 'above'} {span}"
