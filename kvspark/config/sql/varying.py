"""What in a text of Spark SQL gives another value for the same row in another run, or in another scan of one.

A run reads its rows more than once: it counts them, checks the first ones, scores them, and tries a task
again that was lost. A filter that varies keeps other rows each time; an input that varies is another input.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_QUOTED = re.compile(
    r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|`[^`]*`|--[^\n]*|/\*.*?\*/", re.DOTALL
)
_WORD = re.compile(r"[A-Za-z_]\w*")
# Spark calls the clock deterministic: within one query it stands still.
_CLOCK = frozenset(
    {"current_timestamp", "current_date", "current_time", "localtimestamp", "now", "curdate"}
)
_WITHOUT_ARGUMENT = frozenset({"unix_timestamp", "to_unix_timestamp"})
_CHANCE = frozenset(
    {"rand", "random", "randn", "uuid", "shuffle", "randstr", "uniform"}
    | {"aes_encrypt", "try_aes_encrypt", "reflect", "java_method", "try_reflect"}
)
"""Spark calls aes_encrypt deterministic: it draws a vector for each value."""
_FILE = frozenset({"input_file_name"})
_PLACE = frozenset(
    {
        "monotonically_increasing_id",
        "spark_partition_id",
        "input_file_block_start",
        "input_file_block_length",
    }
    | {"current_user", "session_user", "user", "version"}
)
_BARE = frozenset({"current_timestamp", "current_date", "current_time", "localtimestamp"})
_SUBQUERY = re.compile(r"\(\s*(?:select|with|from)\b", re.IGNORECASE)
_ROWS = frozenset({"explode", "explode_outer", "posexplode", "posexplode_outer", "inline", "stack"})
_DAYS = ("now", "today", "tomorrow", "yesterday")
_DAY_LITERAL = re.compile(
    rf"(?i)\b(?:date|timestamp|timestamp_ntz|timestamp_ltz)\s*['\"]\s*({'|'.join(_DAYS)})\b"
)
_DAY_TEXT = re.compile(rf"(?i)['\"]\s*({'|'.join(_DAYS)})(?:\s+[\w/+:-]+)?\s*['\"]")

_OF_THE_DAY = "of the day; write the date into the conf, {{ run.date }}"
_BY_CHANCE = "drawn by chance"
_OF_THE_PLACE = "of the place where a row lies or of who runs it"


def plain(text: str) -> str:
    """`text` with empty texts in place of what it quotes, and without comments."""
    return _QUOTED.sub(" '' ", text)


def calls(text: str) -> Iterator[tuple[str, str]]:
    """Each name in `text`, in lower case, with what follows it; names inside quotes are none."""
    bare = plain(text)
    for found in _WORD.finditer(bare):
        yield found.group().lower(), bare[found.end() :].lstrip()


def varying(text: str, *, is_filter: bool = False) -> tuple[str, str] | None:
    """The function in `text` that varies, and what its value is; None if there is none by name.

    A filter may ask for the name of a row's file, which does not change while a run reads it.
    """
    literal = _DAY_LITERAL.search(text)
    if literal is not None:
        return f"'{literal[1]}'", _OF_THE_DAY
    for word, rest in calls(text):
        is_call = rest.startswith("(")
        if word in _CLOCK and (is_call or word in _BARE):
            return word, _OF_THE_DAY
        if word in _WITHOUT_ARGUMENT and re.match(r"\(\s*\)", rest):
            return word, _OF_THE_DAY
        if is_call and word in _CHANCE:
            return word, _BY_CHANCE
        if is_call and (word in _PLACE or (word in _FILE and not is_filter)):
            return word, _OF_THE_PLACE
    return None


def unfit(text: str) -> str | None:
    """Why the expression `text` cannot be an input: it varies, or is not of one row; None if nothing tells.

    What is said begins with a verb.
    """
    if _SUBQUERY.search(plain(text)):
        return "reads other rows by a SELECT of its own; join them in a step of its own, and name its column"
    found = varying(text)
    if found is not None:
        return varies(*found)
    for word, rest in calls(text):
        is_call = rest.startswith("(")
        if word == "over" and is_call:
            return (
                "is a window over other rows; compute it in a step of its own, and name its column"
            )
        if is_call and word in _ROWS:
            return f"makes several rows of one ({word}); an input has one value a row"
    return None


def varies(word: str, why: str, *, is_filter: bool = False) -> str:
    """What is said of an expression with `word` in it, whose value is `why`; begins with a verb."""
    if is_filter:
        advice = "" if "{{" in why else ", and take a sample by a hash: crc32(id) % 100 < 10"
        return (
            f"may give another value for the same row ({word} is {why}), and a run reads its rows more than once; "
            f"filter by columns alone{advice}"
        )
    return (
        f"may give another value for the same row in another run ({word} is {why}), and a result is remembered by "
        "its inputs"
    )


def days_in(text: str) -> list[str]:
    """The texts in `text` of which Spark makes the day or the time of the run where it wants one."""
    return [found.lower() for found in _DAY_TEXT.findall(text)]
