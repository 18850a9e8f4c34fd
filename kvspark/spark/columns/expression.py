"""Expressions over the columns of a row: the same row must give the same value, whenever it is computed."""

from __future__ import annotations

import re
from typing import Any

from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from kvspark.config.sql.varying import calls, days_in, unfit, varies, varying
from kvspark.errors import UsageError
from kvspark.spark.columns.analysis import analysis_text
from kvspark.spark.session.connect import is_connect


def refuse_varying(text: str, what: str) -> None:
    """Does nothing if the expression `text` names no function that gives another value in another run.

    Raises:
        UsageError: it does, or it reads other rows than its own; names `what` and the function.
    """
    said = unfit(text)
    if said is not None:
        raise UsageError(f"{what} {said}")


def refuse_varying_plan(df: DataFrame, text: str, what: str, *, is_filter: bool = False) -> None:
    """Does nothing if what `df` computes last, from `text`, gives the same whenever it is computed, as Spark says.

    Under Spark Connect nobody can ask.

    Raises:
        UsageError: it does not.
    """
    if is_connect(df.sparkSession):
        return
    query: Any = df._jdf.queryExecution()  # noqa: SLF001 - no other way to ask Spark
    names_file = is_filter and "input_file_name" in (word for word, _ in calls(text))
    if not names_file and not query.analyzed().expressions().head().deterministic():
        raise UsageError(
            f"{what} {varies('it', 'not deterministic, as Spark says', is_filter=is_filter)}"
        )
    days = days_in(text)
    if days and _made_days(query, days):
        why = "of the day; write the date into the conf, {{ run.date }}"
        raise UsageError(f"{what} {varies(repr(days[0]), why, is_filter=is_filter)}")


_SAMPLE = re.compile(r"(?m)^[\s:+|-]*Sample \d")
"""A node of a plan. Even with a seed (`REPEATABLE`) it depends on how files are split into tasks."""


def refuse_varying_query(df: DataFrame, text: str, what: str) -> None:
    """Does nothing if the query `df`, of `text`, gives the same rows whenever it is asked, as Spark and its words say.

    Raises:
        UsageError: it does not; names `what`.
    """
    found = varying(text, is_filter=True)
    days = days_in(text)
    if found is None and not is_connect(df.sparkSession):
        query: Any = df._jdf.queryExecution()  # noqa: SLF001 - no other way to ask Spark
        if not query.analyzed().deterministic():
            found = ("it", "not deterministic, as Spark says")
        elif _SAMPLE.search(query.analyzed().toString()):
            found = ("TABLESAMPLE", "drawn by chance")
        elif days and _made_days(query, days):
            found = (repr(days[0]), "of the day; write the date into the conf, {{ run.date }}")
    if found is not None:
        raise UsageError(
            f"{what} may give other rows the next time ({found[0]} is {found[1]}), and a run asks more than once; nothing was "
            "written"
        )


def _made_days(query: Any, days: list[str]) -> bool:
    """True if Spark has put dates or times in the place of some of `days`; others are texts as they stand."""
    word = re.compile(rf"(?i)\b(?:{'|'.join(days)})\b(?!#)")
    before, after = query.analyzed().toString(), query.optimizedPlan().toString()
    return len(word.findall(after)) < len(word.findall(before))


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
    refuse_varying_plan(made, expression if isinstance(expression, str) else "", what)


def _check_plan(made: Any, what: str) -> None:
    plan = made._jdf.queryExecution().analyzed()  # noqa: SLF001 - no other way to ask Spark
    if plan.nodeName() != "Project" or plan.child().nodeName() in {"Window", "Generate"}:
        raise UsageError(
            f"{what} reads other rows than its own, or makes several of one; compute it in a step of "
            "its own, and name its column"
        )


def _column(expression: str | Column) -> Column:
    return F.expr(expression) if isinstance(expression, str) else expression
