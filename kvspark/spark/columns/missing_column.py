"""What is said where a column is not in a table: the nearest that is, and how to write what was meant."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from kvspark.spark.columns.analysis import listed

_IN_INPUTS = "map the input to a column in inputs"


def missing_column(name: str, columns: Sequence[str], advice: str = _IN_INPUTS) -> str:
    """What there is instead of column `name`, on one line however many `columns` there are.

    `advice` is what to do where none of them is near.
    """
    return f"there is no column {name!r}; {_meant(name, columns, advice)}"


def _meant(name: str, columns: Sequence[str], advice: str) -> str:
    plain = name.strip("`")
    if plain != name and plain in columns:
        return f"write {plain!r}, without backticks"
    outer = plain.partition(".")[0]
    if outer != plain and outer in columns:
        return f"for a field of {outer!r} write {{expr: {plain}}}"
    same = [column for column in columns if column.lower() == name.lower()]
    near = same or difflib.get_close_matches(name, columns, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"the table has {listed(columns) or 'none'}; {advice}"
