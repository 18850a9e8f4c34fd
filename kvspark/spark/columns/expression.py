"""Expressions over the columns of a row: the same row must give the same value, whenever it is computed."""

from __future__ import annotations

import re
from typing import Any

from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from kvspark.errors import UsageError
from kvspark.spark.columns.analysis import analysis_text
from kvspark.spark.weights.ship import is_connect

_QUOTED = re.compile(
    r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|`[^`]*`|--[^\n]*|/\*.*?\*/", re.DOTALL
)
_SUBQUERY = re.compile(r"\(\s*(?:select|with|from)\b", re.IGNORECASE)
_WORD = re.compile(r"[A-Za-z_]\w*")
# Spark calls the clock deterministic: within one query it stands still.
_CLOCK = frozenset(
    {"current_timestamp", "current_date", "current_time", "localtimestamp", "now", "curdate"}
)
_CHANCE = frozenset({"rand", "random", "randn", "uuid", "shuffle", "randstr", "uniform"})
_PLACE = frozenset(
    {
        "monotonically_increasing_id",
        "spark_partition_id",
        "input_file_name",
        "input_file_block_start",
    }
    | {"input_file_block_length", "current_user", "session_user", "user", "version"}
)
_ROWS = frozenset({"explode", "explode_outer", "posexplode", "posexplode_outer", "inline", "stack"})
_BARE = frozenset({"current_timestamp", "current_date", "current_time", "localtimestamp"})


def refuse_varying(text: str, what: str) -> None:
    """Does nothing if the expression `text` names no function that gives another value in another run.

    Raises:
        UsageError: it does, or it reads other rows than its own; names `what` and the function.
    """
    plain = _QUOTED.sub(" '' ", text)
    if _SUBQUERY.search(plain):
        raise UsageError(
            f"{what} reads other rows by a SELECT of its own; join them in a step of its own, and name its column"
        )
    for found in _WORD.finditer(plain):
        word, rest = found.group().lower(), plain[found.end() :].lstrip()
        is_call = rest.startswith("(")
        if word in _CLOCK and (is_call or word in _BARE):
            raise _varies(what, word, "of the day; write the date into the conf: {{ run.date }}")
        if is_call and word in _CHANCE:
            raise _varies(what, word, "drawn by chance")
        if is_call and word in _PLACE:
            raise _varies(what, word, "of the place where a row lies or of who runs it")
        if word == "over" and is_call:
            raise UsageError(
                f"{what} is a window over other rows; compute it in a step of its own, and name its column"
            )
        if is_call and word in _ROWS:
            raise UsageError(
                f"{what} makes several rows of one ({word}); an input has one value a row"
            )


def with_expressions(
    df: DataFrame, expressions: list[tuple[str, str | Column]], names: list[str]
) -> DataFrame:
    """`df` and behind it the values of `expressions`, each with what it is called in an error.

    Raises:
        UsageError: one is no expression over this table, reads other rows, or may give another value
            for the same row.
    """
    if not expressions:
        return df
    for (what, expression), name in zip(expressions, names, strict=True):
        _check(df, what, expression, name)
    return df.select(
        "*", *(_column(e).alias(n) for (_, e), n in zip(expressions, names, strict=True))
    )


def _check(df: DataFrame, what: str, expression: str | Column, name: str) -> None:
    try:
        made = df.select(_column(expression).alias(name))
        made.schema  # noqa: B018 - Spark Connect looks at it now
    except (AnalysisException, ParseException) as exc:
        raise UsageError(
            f"{what} cannot be computed for a row of this table: {analysis_text(exc, df.columns)}"
        ) from None
    if not is_connect(df.sparkSession):
        _check_plan(made, what)


def _check_plan(made: Any, what: str) -> None:
    plan = made._jdf.queryExecution().analyzed()  # noqa: SLF001 - no other way to ask Spark
    if plan.nodeName() != "Project" or plan.child().nodeName() in {"Window", "Generate"}:
        raise UsageError(
            f"{what} reads other rows than its own, or makes several of one; compute it in a step of "
            "its own, and name its column"
        )
    if not plan.expressions().head().deterministic():
        raise _varies(what, "it", "not deterministic, as Spark says")


def _column(expression: str | Column) -> Column:
    return F.expr(expression) if isinstance(expression, str) else expression


def _varies(what: str, word: str, why: str) -> UsageError:
    return UsageError(
        f"{what} may give another value for the same row in another run ({word} is {why}), and a result "
        "is remembered by its inputs"
    )
