"""What Spark's readers of text files read wrongly without a word: a second object on a line, a quote that never ends.

Sources: https://datatracker.ietf.org/doc/html/rfc4180, https://datatracker.ietf.org/doc/html/rfc8259
"""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

_COMPRESSED: Mapping[str, Callable[[str], Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
}
_NOT_READ_HERE = (".deflate", ".lz4", ".snappy", ".xz", ".zst", ".zstd")
"""Other endings by which Spark takes a file for a compressed one."""
_NOT_AS_HERE = {"chartoescapequoteescaping", "comment", "linesep", "unescapedquotehandling"}
"""Options with which the two readers may differ on where a text ends."""

_NUMBERS_STAY_TEXT = json.JSONDecoder(parse_int=str, parse_float=str, strict=False)
_BLANK = re.compile(r"[ \t\r\n]*")


def fault_of_text(path: str, format_: str, options: Mapping[str, str]) -> str | None:
    """What is wrong with the text file at `path`, in words without any of its content; None if nothing is known to be.

    `options` are those of Spark's reader. Where they make a file one that is not read alike here, nothing is said of it.
    """
    if path.endswith(_NOT_READ_HERE):
        return None
    given = {name.lower(): value for name, value in options.items()}
    encoding = _known(given.get("encoding", "UTF-8"))
    opened = next((how for end, how in _COMPRESSED.items() if path.endswith(end)), None)
    with opened(path) if opened else Path(path).open("rb") as raw:
        # Spark's reader of JSON refuses such bytes itself.
        errors = "strict" if format_ == "csv" else "replace"
        text = io.TextIOWrapper(raw, encoding=encoding, errors=errors, newline="")
        if format_ == "json":
            return _fault_of_json(text, given)
        try:
            return _fault_of_csv(text, given)
        except UnicodeDecodeError:
            return f"it is not written in {encoding.removesuffix('-sig')}; name its input.options: {{encoding: ...}}"


def _known(encoding: str) -> str:
    """Python's name of it; one in which all bytes are letters where Python has none."""
    try:
        name = codecs.lookup(encoding).name
    except LookupError:
        return "latin-1"
    return "utf-8-sig" if name == "utf-8" else name


def _fault_of_json(text: Iterable[str], options: Mapping[str, str]) -> str | None:
    bad = sum(1 for line in _documents(text, options) if _goes_on(line))
    if not bad:
        return None
    lines = "1 line" if bad == 1 else f"{bad:,} lines"
    return f"{lines} of it cannot be read as one object: there is more behind it; write each object on a line of its own"


def _documents(text: Iterable[str], options: Mapping[str, str]) -> Iterator[str]:
    end = options.get("linesep")
    if options.get("multiline", "false").lower() == "true":
        yield "".join(text)
    elif end is None:
        yield from text
    else:
        yield from "".join(text).split(end)


def _goes_on(line: str) -> bool:
    try:
        _, end = _NUMBERS_STAY_TEXT.raw_decode(line, _blank_until(line, 0))
    except (ValueError, RecursionError):
        return False  # no JSON of the standard: Spark's reader says whether it is a row
    return _blank_until(line, end) < len(line)


def _blank_until(line: str, start: int) -> int:
    found = _BLANK.match(line, start)
    return found.end() if found else start


def _fault_of_csv(text: Iterable[str], options: Mapping[str, str]) -> str | None:
    sep, quote = options.get("sep", ","), options.get("quote", '"')
    escape = options.get("escape", '"')
    has_lines = options.get("multiline", "true").lower() == "true"
    if not (has_lines and len(sep) == len(quote) == len(escape) == 1) or _NOT_AS_HERE & set(
        options
    ):
        for _ in text:
            pass
        return None
    is_twice = escape == quote
    csv.field_size_limit(sys.maxsize)
    rows = csv.reader(
        text,
        delimiter=sep,
        quotechar=quote,
        doublequote=is_twice,
        escapechar=None if is_twice else escape,
        strict=True,
    )
    try:
        for _ in rows:
            pass
    except csv.Error as exc:
        if "unexpected end of data" in str(exc):
            return "a text in quotes does not end, so that all behind it is one text; close it, or see input.options"
    return None
