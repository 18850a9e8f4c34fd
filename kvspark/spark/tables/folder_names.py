"""What Spark makes of the names of files and folders: hidden ones, and folders that are partitions."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kvspark.errors import DataError

HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
"""What stands for null in the name of a folder, and for empty text, of which Spark makes null."""

Partition = tuple[tuple[str, str | None], ...]
"""Values by column."""

_ESCAPED = re.compile("%([0-9A-Fa-f]{2})")


def partition_value(text: str | None) -> str | None:
    """The value that `text` stands for in `input.partitions`; None for null."""
    return None if text in {None, "", HIVE_NULL} else text


def partition_of(root: str, parts: Sequence[str]) -> Partition:
    """The values that the folders `parts`, below `root`, name.

    Raises:
        DataError: one names none, or a column is named twice.
    """
    pairs = [part.partition("=") for part in parts]
    for (column, _, value), part in zip(pairs, parts, strict=True):
        if not column or not value:
            raise DataError(
                f"input path {root}: Spark cannot read the folder {part}, which names no "
                f"{'value' if column else 'column'}; nothing was written, rename it (null is {HIVE_NULL})"
            )
    names = [_plain(column).lower() for column, _, _ in pairs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(
            f"input path {root}: the folders {'/'.join(parts)} name column {twice!r} twice; nothing was written, rename "
            "one of them"
        )
    return tuple((_plain(column), partition_value(_plain(value))) for column, _, value in pairs)


def _plain(text: str) -> str:
    # As Spark does it, a character for each byte, which is not how a URL is read.
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text)


def is_hidden(name: str) -> bool:
    """True for a file or folder that Spark skips."""
    return (
        name.startswith(".")
        or (name.startswith("_") and "=" not in name)
        or name.endswith("._COPYING_")
    )
