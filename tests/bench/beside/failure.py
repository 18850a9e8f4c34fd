"""The line of a failed program's output that says why it failed."""

from __future__ import annotations

import re

LONGEST = 160

_ERROR = re.compile(r"^(?:ERROR: .*|[A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt)\b.*)$")


def first_line(printed: str) -> str:
    """The first line of the last error in what a program printed, shortened; its last line if none is there."""
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    # Python prints the causes before what they caused: the first error is nearest to the trouble.
    errors = [line for line in lines if _ERROR.match(line)]
    said = errors[0] if errors else (lines[-1] if lines else "it printed nothing")
    return said if len(said) <= LONGEST else said[: LONGEST - 1] + "…"
