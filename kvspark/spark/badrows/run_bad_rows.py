"""What the conf of a run says of bad rows, on the driver."""

from __future__ import annotations

from collections.abc import Callable

from pyspark.sql import DataFrame

from kvspark.config.table.input_table import InputConfig
from kvspark.errors import BadRowsError
from kvspark.spark.badrows.quarantine import check_ids, quarantine_of
from kvspark.spark.columns.column_map import ColumnMap
from kvspark.spark.scoring.bad_rows import BadRowOutput, NoBadRows, NullOutputs
from kvspark.spark.sources.input.source import Source
from kvspark.stats import RunStats
from kvspark.table.place.place import Place


def bad_rows_of(
    config: InputConfig,
    source: Source,
    columns: ColumnMap,
    opened: Callable[[], tuple[Place, str]],
) -> tuple[DataFrame, BadRowOutput]:
    """The table to score, and what its tasks do with bad rows.

    `opened` gives a place, and a folder in it, for those that the output leaves out; it is asked if there may be some.

    Raises:
        UsageError: `input.id` names no column that can name a row.
    """
    if config.on_bad_row == "error":
        if config.id:
            check_ids(source, columns, config.id)
        return source.df, NoBadRows(tuple((n, source.df.columns.index(n)) for n in config.id))
    most = most_bad_rows(config, source.rows)
    if config.on_bad_row == "null":
        return source.df, NullOutputs(most)
    place, folder = opened()
    return quarantine_of(source, columns, ids=config.id, place=place, folder=folder, most=most)


def most_bad_rows(config: InputConfig, rows: int) -> int | None:
    """How many of `rows` rows may be bad; None if any number may."""
    limits = []
    if config.max_bad_rows is not None:
        limits.append(config.max_bad_rows)
    if config.max_bad_fraction is not None:
        limits.append(int(config.max_bad_fraction * rows))
    return min(limits, default=None)


def check_bad_rows(config: InputConfig, stats: RunStats, rows: int) -> None:
    """Does nothing if no more rows are bad than the conf allows.

    Raises:
        BadRowsError: more are; says at which stages and of which kinds.
    """
    most = most_bad_rows(config, rows)
    if most is not None and stats.bad_row_count > most:
        raise BadRowsError(
            f"{stats.bad_row_count:,} of {rows:,} rows are bad and {most:,} are allowed "
            f"({counted(stats)}); nothing was published, mend the input or allow more by "
            "input.max_bad_rows or input.max_bad_fraction"
        )


def counted(stats: RunStats) -> str:
    """The bad rows by stage and kind of error, the most frequent ones first."""
    counts = [
        (-count, f"{stage} {error} {count:,}")
        for stage, errors in stats.bad_rows.items()
        for error, count in errors.items()
    ]
    return ", ".join(text for _, text in sorted(counts))
