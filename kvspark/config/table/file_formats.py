"""Which settings of an input go with which format, and how text files are written."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal, TypeAlias

Format: TypeAlias = Literal["parquet", "delta", "iceberg", "csv", "json", "orc"]

_TEXT: tuple[Format, ...] = ("csv", "json")
_FILES: tuple[Format, ...] = ("parquet", "orc", *_TEXT)
_OF_FORMATS: Mapping[str, tuple[Format, ...]] = {
    "branch": ("iceberg",),
    "catalog": ("iceberg",),
    "changed_since": ("delta", "iceberg"),
    "columns": _TEXT,
    "merge_schema": ("parquet",),
    "options": _TEXT,
    "partitions": (*_FILES, "delta"),
    "snapshot": ("iceberg",),
    "storage": ("parquet", "delta", "iceberg"),
    "strict_files": _FILES,
    "timestamp": ("delta",),
    "version": ("delta",),
}
"""The settings that not every format has."""

_BOTH = {
    "allowUnquotedControlChars",
    "dateFormat",
    "encoding",
    "lineSep",
    "locale",
    "multiLine",
    "timeZone",
    "timestampFormat",
    "timestampNTZFormat",
}
_OPTIONS: Mapping[str, set[str]] = {
    "csv": {
        *_BOTH - {"allowUnquotedControlChars"},
        "charToEscapeQuoteEscaping",
        "comment",
        "emptyValue",
        "escape",
        "header",
        "ignoreLeadingWhiteSpace",
        "ignoreTrailingWhiteSpace",
        "maxCharsPerColumn",
        "maxColumns",
        "nanValue",
        "negativeInf",
        "nullValue",
        "positiveInf",
        "quote",
        "sep",
        "unescapedQuoteHandling",
    },
    "json": {
        *_BOTH,
        "allowBackslashEscapingAnyCharacter",
        "allowComments",
        "allowNonNumericNumbers",
        "allowNumericLeadingZeros",
        "allowSingleQuotes",
        "allowUnquotedFieldNames",
        "primitivesAsString",
    },
}
"""Options of Spark's reader that say how a file is written. Those that say which files or lines are read, or that guess
types, are kvspark's own.

Sources: https://spark.apache.org/docs/latest/sql-data-sources-csv.html, .../sql-data-sources-json.html
"""


def refuse_what_does_not_fit(format_: Format, given: Collection[str], *, is_sql: bool) -> None:
    """Does nothing if the settings `given` of `input` go with its format, or with a query.

    Raises:
        ValueError: one does not; names it.
    """
    for name in given if is_sql else ():
        if name in {"paths", "format", *_OF_FORMATS}:
            raise ValueError(f"input.{name} does not go with input.sql; leave one of them out")
    for name, formats in _OF_FORMATS.items():
        if name in given and format_ not in formats:
            raise ValueError(
                f"input.{name} is of {' and '.join(formats)}, and input.format is {format_}; leave it out"
            )


def refuse_text(format_: Format, columns: Collection[str], options: Collection[str]) -> None:
    """Does nothing if `columns` and `options` describe files of `format_`, or these describe themselves.

    Raises:
        ValueError: there are no columns, or an option is none of such files; names it.
    """
    if format_ not in _OPTIONS:
        return
    if not columns:
        raise ValueError(
            f"a file of format: {format_} does not say what its columns are; name all with their types in input.columns, "
            "{id: bigint, text: string}"
        )
    known = {name.lower(): name for name in _OPTIONS[format_]}
    for name in options:
        if name.lower() not in known:
            raise ValueError(
                f"input.options has {name!r}, which is none of a file of format: {format_}; there are "
                f"{', '.join(sorted(known.values()))}"
            )
