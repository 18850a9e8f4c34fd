"""The rows to score: read as they are, checked on the driver before anything is computed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import final

from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, StructType

from kvspark.config.table.input_table import InputConfig
from kvspark.errors import DataError, UsageError
from kvspark.spark.columns.analysis import analysis_text, shortened
from kvspark.spark.columns.column_map import ColumnMap, quoted
from kvspark.spark.columns.expression import refuse_varying_plan
from kvspark.spark.sources.input.found_input import FoundInput
from kvspark.spark.sources.input.located import PLACES, can_locate, located
from kvspark.spark.sources.input.split_rows import SplitRows
from kvspark.spark.tables.folder_names import HIVE_NULL
from kvspark.spark.tables.input_files import refuse_nulls


@final
@dataclass(frozen=True, slots=True)
class Source:
    """The rows to score."""

    df: DataFrame
    rows: int
    found: FoundInput | None = None
    """What they are read from; None for a table that is not a job's."""
    placed: DataFrame | None = None
    """`df` with `PLACES` at its end, where Spark does not read the files itself."""
    splits: SplitRows | None = None
    """`df` as workers read it; None where Spark does something to its rows."""

    @property
    def can_locate(self) -> bool:
        """True if each row has a file and a place there, and no column has a name that is needed to say so."""
        return self.found is not None and self.found.has_places and can_locate(self.df)

    def located(self) -> DataFrame:
        """`df` with `PLACES` behind its columns: the same rows in the same partitions. Only if `can_locate`."""
        return located(self.df) if self.placed is None else self.placed

    def by_splits(self) -> Source:
        """The same rows as workers read them. Only where there are `splits`."""
        assert self.splits is not None
        spark = self.df.sparkSession
        placed = self.splits.placed(spark) if can_locate(self.df) else None
        return replace(self, df=self.splits.df(spark), placed=placed)

    def with_inputs(
        self, made: Callable[[DataFrame], tuple[DataFrame, ColumnMap]]
    ) -> tuple[Source, ColumnMap]:
        """The rows with the inputs that `made` makes of their columns behind these, and where those are."""
        df, columns = made(self.df)
        splits = self.splits if df is self.df else None
        if self.placed is None:
            return replace(self, df=df, splits=splits), columns
        names = [F.col(quoted(name)) for name in (*df.columns, *PLACES)]
        placed = made(self.placed)[0].select(*names)
        return replace(self, df=df, placed=placed, splits=splits), columns


def read_source(
    spark: SparkSession,
    config: InputConfig,
    found: FoundInput,
    *,
    columns: Sequence[str],
    defaulted: Collection[str] = (),
    check: Callable[[DataFrame], object] = lambda _: None,
) -> Source:
    """The rows of `found`, the input of `config`; `columns` are those that the model takes.

    Nulls in those of them that are `defaulted` have a value. `check` raises where types are wrong:
    before nulls are looked for.

    Raises:
        DataError: a null in one of `columns` where a bad row is an error, or no row and the conf refuses that.
        SchemaError: Spark cannot read a column.
        UsageError: the filter is not a condition on this table.
    """
    df = _filtered(found.read(spark), config)
    check(df)
    checked = [name for name in columns if name not in defaulted]
    checked = checked if config.on_bad_row == "error" else []
    rows = _checked_rows(df, found, checked, is_filtered=config.filter is not None)
    if rows == 0 and config.fail_on_empty:
        raise DataError(f"input matched 0 rows ({_described(config)}); nothing was written")
    placed = found.placed(spark)
    if placed is not None:
        placed = _filtered(placed, config) if can_locate(df) else None
    splits = found.splits(spark) if config.filter is None else None
    is_same = splits is not None and _kinds(splits.schema) == _kinds(df.schema)
    return Source(df, rows, found, placed, splits if is_same else None)


def _kinds(schema: StructType) -> list[DataType]:
    return [field.dataType for field in schema.fields]


def _filtered(df: DataFrame, config: InputConfig) -> DataFrame:
    if config.filter is None:
        return df
    try:
        kept = df.where(config.filter)
    except (AnalysisException, ParseException) as exc:
        raise UsageError(
            f"input.filter {shortened(config.filter)!r} is not a condition on this table: "
            f"{analysis_text(exc, df.columns)}"
        ) from None
    what = f"input.filter {shortened(config.filter)!r}"
    refuse_varying_plan(kept, config.filter, what, is_filter=True)
    return kept


def _checked_rows(
    df: DataFrame, found: FoundInput, columns: Sequence[str], *, is_filtered: bool
) -> int:
    """The number of rows, from what is known of them where that is everything, else from a scan."""
    if not is_filtered and found.rows is not None and found.refuse_known_nulls(columns):
        return found.rows
    counts = [F.count_if(F.col(quoted(name)).isNull()) for name in columns]
    rows, *nulls = df.agg(F.count(F.lit(1)), *counts).first() or (0,)
    for name, count in zip(columns, nulls, strict=True):
        refuse_nulls(name, count, rows, "the rows that are read")
    return int(rows)


def _described(config: InputConfig) -> str:
    parts = [f"{name}={value or HIVE_NULL}" for name, value in config.partitions.items()]
    if config.filter:
        parts.append(f"filter {config.filter}")
    return ", ".join(parts) or ", ".join(config.named)
