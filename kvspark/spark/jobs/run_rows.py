"""The rows that a run scores: in which tasks, in which order, and who reads them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from pyspark.sql import DataFrame

from kvspark.config.job import JobConfig
from kvspark.plan.plan import Plan
from kvspark.spark.badrows.run_bad_rows import bad_rows_of
from kvspark.spark.columns.column_map import ColumnMap
from kvspark.spark.scoring.bad_rows import BadRowOutput
from kvspark.spark.scoring.spread import in_order, spread
from kvspark.spark.sources.input.source import Source
from kvspark.spark.sources.input.split_rows import SplitRows
from kvspark.table.place.place import Place


@final
@dataclass(frozen=True, slots=True)
class RunRows:
    """What is scored."""

    source: Source
    """What it is read from; its partitions are those in which rows are looked for by place."""
    df: DataFrame
    bad_rows: BadRowOutput
    splits: SplitRows | None
    """`df`, where the workers that score it read it too; None where Spark gives them its rows."""

    @property
    def reader(self) -> str:
        """Who reads the rows, in a run report."""
        return "spark" if self.splits is None else "workers"


def rows_of_run(
    config: JobConfig,
    plan: Plan,
    source: Source,
    columns: ColumnMap,
    opened: Callable[[], tuple[Place, str]],
) -> RunRows:
    """The rows of `source` that a run of `config` with `plan` scores; `opened` as `bad_rows_of` takes it.

    Workers that write read as well, where nothing is between: no filter, no input made of columns, no order, one split
    for each core at least, no file and place behind each row, and no distinct values that Spark finds first. A row
    crosses no process then.

    Raises:
        UsageError: as `bad_rows_of`.
    """
    read = source if _is_given(config, plan, source) else source.by_splits()
    given, bad_rows = bad_rows_of(config.input, read, columns, opened)
    df = in_order(spread(given, read.rows, columns), config.output.sort_by)
    is_given = read is source or df is not read.df
    return RunRows(read, df, bad_rows, None if is_given else read.splits)


def _is_given(config: JobConfig, plan: Plan, source: Source) -> bool:
    """True if Spark reads the rows."""
    if config.cache is not None and plan.distinct_first:
        return True
    if source.splits is None or config.output.writer != "arrow" or config.output.sort_by:
        return True
    is_located = config.input.on_bad_row == "quarantine" and not config.input.id
    cores = source.df.sparkSession.sparkContext.defaultParallelism
    return is_located or len(source.splits.reader.splits) < cores
