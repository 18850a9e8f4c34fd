"""Which texts of Spark SQL give one number a row and no array: known without Spark, where the text says so."""

from __future__ import annotations

import re

from kvspark.config.sql.varying import plain

_OPERATOR = re.compile(r"(?<![|:<>-])[-+*/%=<>!](?![|>])")
_WORDS = re.compile(r"(?i)\b(and|or|not|div|between|like|rlike|in|is)\b")
_NUMBER = re.compile(r"(?i)[\d.]+(e[+-]?\d+)?[a-z]?")
_CALL = re.compile(r"(?i)([a-z]\w*)\s*\(\)")
_CAST = re.compile(r"(?i)\s+as\s+(tinyint|smallint|int|integer|bigint|float|double|boolean)\s*\)$")
_SCALARS = frozenset(
    "tinyint smallint int bigint float double boolean abs sqrt cbrt ln log log10 log1p log2 exp expm1 pow power round "
    "bround floor ceil ceiling sign signum sin cos tan asin acos atan sinh cosh tanh length char_length size cardinality "
    "year quarter month day dayofmonth dayofweek dayofyear weekofyear hour minute second unix_date unix_timestamp "
    "datediff months_between hash xxhash64 crc32 try_divide try_add try_subtract try_multiply".split()
)


def is_one_number(text: str) -> bool:
    """True if the expression `text` gives one number or truth value a row, whatever its columns are.

    False where it may give an array as well.
    """
    bare = plain(text).strip()
    top = _without_brackets(bare)
    if re.search(r"(?i)\bcase\b|::|\|\|", top):
        return False
    called = _CALL.fullmatch(top.strip())
    if called is not None:
        is_cast = called[1].lower() in ("cast", "try_cast")
        return _CAST.search(bare) is not None if is_cast else called[1].lower() in _SCALARS
    is_literal = _NUMBER.fullmatch(top.strip()) is not None
    return is_literal or _OPERATOR.search(top) is not None or _WORDS.search(top) is not None


def _without_brackets(text: str) -> str:
    """`text` with `()` in place of what is in brackets; brackets around all of it are taken off."""
    kept: list[str] = []
    depth = 0
    for letter in text:
        if letter in "([" and not depth:
            kept.append("(")
        depth += (letter in "([") - (letter in ")]")
        if not depth:
            kept.append(")" if letter in ")]" else letter)
    made = "".join(kept)
    return _without_brackets(text[1:-1]) if made.strip() == "()" and text[:1] == "(" else made
