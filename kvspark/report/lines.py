"""Lines for a terminal: broken between words, with sizes that people read."""

from __future__ import annotations

import re

from rich.console import Console
from rich.text import Text


def say(console: Console, markup: str, *, indent: int = 0) -> None:
    """Prints a line, broken between words where it is longer than the terminal is wide.

    All lines but the first stand `indent` characters further right.
    """
    text = Text.from_markup(markup)
    for place, line in enumerate(text.divide(_breaks(text.plain, console.width, indent))):
        line.rstrip()
        if place:
            line.pad_left(indent)
        console.print(line, highlight=False, soft_wrap=True)


def _breaks(text: str, width: int, indent: int) -> list[int]:
    """Where lines of at most `width` characters end in `text`; a longer word has one of its own."""
    breaks, start, room = [], 0, width
    for word in re.finditer(r"\S+", text):
        if word.end() - start > room and word.start() > start:
            breaks.append(word.start())
            start, room = word.start(), width - indent
    return breaks


def size(size_bytes: int) -> str:
    """A number of bytes for people: 512 B, 1.5 MiB."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:,.0f} {unit}" if unit == "B" else f"{size:,.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} GiB"
