"""The input table: read as it is, checked on the driver before anything is computed."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import DataFrame, DataFrameReader, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from kvspark.config.inputs import InputConfig
from kvspark.errors import DataError, SchemaError, UsageError
from kvspark.spark.columns.analysis import analysis_text, shortened
from kvspark.spark.columns.column_map import quoted
from kvspark.spark.columns.expression import refuse_varying_plan
from kvspark.spark.tables.footers import Footer
from kvspark.spark.tables.input_files import (
    InputFiles,
    find_files,
    refuse_known_nulls,
    refuse_nulls,
)
from kvspark.spark.tables.listing import (
    HIVE_NULL,
    InputFile,
    partition_value,
)
from kvspark.spark.tables.merged_schema import merged

_INFERENCE = "spark.sql.sources.partitionColumnTypeInference.enabled"


@final
@dataclass(frozen=True, slots=True)
class Source:
    """The rows to score."""

    df: DataFrame
    rows: int
    files: tuple[InputFile, ...]
    """The files of the partitions that are read."""
    empty_files: int
    """Files of zero bytes, which hold no rows."""

    def check_unchanged(self) -> None:
        """Does nothing if the files are those that were checked.

        Raises:
            DataError: a file was written or removed meanwhile; names it.
        """
        for file in self.files:
            if not file.is_as_it_was():
                raise DataError(
                    f"input file {file.path} changed while the run read it; nothing was "
                    "published, start the run again when the input is complete"
                )


def read_source(
    spark: SparkSession,
    config: InputConfig,
    *,
    columns: Sequence[str],
    files: InputFiles | None = None,
    defaulted: Collection[str] = (),
    check: Callable[[DataFrame], object] = lambda _: None,
) -> Source:
    """The table that `config` names; `columns` are those that the model takes.

    Nulls in those of them that are `defaulted` have a value. `check` raises where types are wrong:
    before nulls are looked for.

    Partition values stay text as they are written in the folder names ('007' is not 7), and page
    checksums are verified where the files have them. `files` are those of `config`, found before.

    Raises:
        DataError: no file, a file that is not readable Parquet, a null in one of `columns` where a
            bad row is an error, or no row and the conf refuses that.
        SchemaError: a column is missing, or files do not agree on a column.
        UsageError: the filter is not a condition on this table.
    """
    files = files or find_files(config, columns=columns, defaulted=defaulted)
    selected = files.selected
    df = _filtered(_read(spark, files), config)
    check(df)
    footers = files.footers if selected else ()
    checked = [name for name in columns if name not in defaulted]
    checked = checked if config.on_bad_row == "error" else []
    rows = _checked_rows(df, footers, checked, is_filtered=config.filter is not None)
    if rows == 0 and config.fail_on_empty:
        raise DataError(f"input matched 0 rows ({_described(config)}); nothing was written")
    empty = sum(1 for file in files.found if not file.size_bytes)
    return Source(df, rows, selected, empty)


def _read(spark: SparkSession, files: InputFiles) -> DataFrame:
    before = spark.conf.get(_INFERENCE, "true")
    spark.conf.set(_INFERENCE, "false")
    try:
        reader = spark.read.option("parquet.page.verify-checksum.enabled", "true")
        # The checked files agree on their columns. Spark would take those of any file it likes,
        # also one of a partition that is not read.
        samples = {str(f.columns) + str(f.spark_schema): f.path for f in files.footers}
        paths = list(samples.values()) if files.merges else [files.footers[0].path]
        schema = merged([(path, _schema(reader, path)) for path in paths])
        return reader.schema(schema).parquet(*map(_literal, files.roots))
    finally:
        spark.conf.set(_INFERENCE, before or "true")


def _schema(reader: DataFrameReader, path: Path) -> StructType:
    try:
        return reader.parquet(_literal(path)).schema
    except AnalysisException as exc:
        raise SchemaError(
            f"input file {path}: Spark cannot read its columns ({str(exc).splitlines()[0]}); nothing was "
            "written, write it without that column, or with another type"
        ) from None


def _literal(path: Path) -> str:
    """`path` with nothing in it that Spark would expand."""
    return re.sub(r"([\[\]{}*?\\])", r"\\\1", str(path))


def _filtered(df: DataFrame, config: InputConfig) -> DataFrame:
    for column, text in config.partitions.items():
        value, name = partition_value(text), F.col(quoted(column))
        df = df.where(name.isNull() if value is None else name == F.lit(value))
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
    df: DataFrame,
    footers: Sequence[Footer],
    columns: Sequence[str],
    *,
    is_filtered: bool,
) -> int:
    """The number of rows, from the footers where they tell everything, else from a scan."""
    known = [footer.nulls.get(name, 0) for footer in footers for name in columns]
    if not is_filtered and None not in known:
        refuse_known_nulls(footers, columns)
        return sum(footer.rows for footer in footers)
    counts = [F.count_if(F.col(quoted(name)).isNull()) for name in columns]
    rows, *nulls = df.agg(F.count(F.lit(1)), *counts).first() or (0,)
    for name, count in zip(columns, nulls, strict=True):
        refuse_nulls(name, count, rows, "the rows that are read")
    return int(rows)


def _described(config: InputConfig) -> str:
    parts = [f"{name}={value or HIVE_NULL}" for name, value in config.partitions.items()]
    if config.filter:
        parts.append(f"filter {config.filter}")
    return ", ".join(parts) or ", ".join(config.paths)
