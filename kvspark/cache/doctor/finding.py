"""One thing that was looked at, and what is to be done about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

Level = Literal["ok", "warn", "bad", "unseen"]
"""`bad`: a job will fail, leak, or cache nothing. `warn`: it costs speed or safety. `unseen`: could
not be looked at."""


@final
@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, what is there, and, unless that is right, what should be and what to do."""

    level: Level
    what: str
    got: str
    expected: str = ""
    advice: str = ""

    def line(self) -> str:
        """The whole finding on one line, without its level."""
        told = f"{self.what}: {self.got}"
        if self.expected:
            told += f"; expected {self.expected}"
        return f"{told}; {self.advice}" if self.advice else told


def size_text(size_bytes: float) -> str:
    """A size as a person reads it: 1.5 GiB."""
    for unit in ("B", "KiB", "MiB"):
        if size_bytes < 1024:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} GiB"
