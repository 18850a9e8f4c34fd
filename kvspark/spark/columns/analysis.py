"""What Spark says of an expression that it cannot analyse, in one sentence."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from pyspark.errors import PySparkException

_MOST = 160
_SHOWN = 12
"""Columns that are listed."""


def analysis_text(error: PySparkException, columns: Sequence[str]) -> str:
    """The sentence of `error` without plans, classes and JSON, and the nearest of `columns` where one is unknown."""
    kind = error.getCondition() or ""
    given = error.getMessageParameters() or {}
    if kind.startswith("UNRESOLVED_COLUMN"):
        name = given.get("objectName", "").strip("`").replace("`.`", ".")
        near = difflib.get_close_matches(name, columns, n=1)
        there = f"; did you mean {near[0]!r}?" if near else ""
        if columns and not near:
            there = f"; it has {listed(columns)}"
        return f"there is no column {name!r}{there}"
    if kind.startswith("PARSE_SYNTAX_ERROR"):
        return f"it cannot be read at or near {given.get('error', '?')}; write Spark SQL, text in single quotes"
    if kind.startswith("UNRESOLVED_ROUTINE"):
        return f"there is no function {given.get('routineName', '?')}"
    if kind.startswith("DATATYPE_MISMATCH.FILTER_NOT_BOOLEAN"):
        return f"it gives {given.get('type', 'something')} and not true or false; compare it with something"
    said = next((line for line in str(error).splitlines() if line.strip()), kind)
    text = re.sub(r"^\[[\w.]+\]\s*", "", said.strip())
    sentence = re.split(r"(?<=[.!?]) |SQLSTATE|;\s*$|;\s*line \d", text)[0].strip()
    return f"{shortened(sentence)} (it has {listed(columns)})" if columns else shortened(sentence)


def listed(columns: Sequence[str]) -> str:
    """The names of `columns`, the first of them where there are many."""
    more = f", … ({len(columns) - _SHOWN} more)" if len(columns) > _SHOWN else ""
    return ", ".join(columns[:_SHOWN]) + more


def shortened(text: str) -> str:
    """`text` on one line, and not longer than a line has room for."""
    line = " ".join(text.split())
    return line if len(line) <= _MOST else f"{line[:_MOST]}…"
