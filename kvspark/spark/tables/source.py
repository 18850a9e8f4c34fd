"""The input table: read as it is, checked on the driver before anything is computed."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import DataFrame, DataFrameReader, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from kvspark.config.job import InputConfig
from kvspark.errors import DataError, SchemaError, UsageError
from kvspark.spark.columns.analysis import analysis_text, shortened
from kvspark.spark.columns.column_map import quoted
from kvspark.spark.columns.expression import refuse_varying_plan
from kvspark.spark.columns.missing_column import missing_column
from kvspark.spark.tables.footers import Footer, read_footers
from kvspark.spark.tables.listing import (
    HIVE_NULL,
    InputFile,
    list_files,
    partition_value,
    resolve_paths,
)
from kvspark.spark.tables.merged_schema import merged
from kvspark.spark.tables.nanoseconds import refuse_nanoseconds
from kvspark.wording import count_of

log = logging.getLogger(__name__)

_INFERENCE = "spark.sql.sources.partitionColumnTypeInference.enabled"
_SHOWN = 3


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


@final
@dataclass(frozen=True, slots=True)
class InputFiles:
    """The files of an input, and what their footers say."""

    roots: tuple[Path, ...]
    found: tuple[InputFile, ...]
    """All files, those of zero bytes and of other partitions included."""
    selected: tuple[InputFile, ...]
    """The files of the partitions that are read."""
    footers: tuple[Footer, ...]
    """Of the selected files; of one other file where none is selected."""
    merges: bool = False
    """True if their columns need not agree."""

    @property
    def partition_columns(self) -> tuple[str, ...]:
        """The columns that folder names give."""
        full = next(file for file in self.found if file.size_bytes)
        return tuple(column for column, _ in full.partition)


def find_files(
    config: InputConfig,
    *,
    columns: Sequence[str],
    defaulted: Collection[str] = (),
    nanos_as_long: bool | None = None,
) -> InputFiles:
    """The files that `config` names; needs no Spark. `columns` are those that the model takes.

    Nulls in those of them that are `defaulted` have a value.

    `nanos_as_long` says whether the session reads time stamps of nanoseconds as numbers; None: ask it.

    Raises:
        DataError: no file, a file that is not readable Parquet, one of a table that is more than its
            files (Delta Lake, Iceberg, Hudi), or a column that the model takes is null by a folder's
            name where a bad row is an error.
        SchemaError: a column is missing, or files do not agree on a column.
    """
    roots = resolve_paths(config.paths)
    found = list_files(roots)
    _check_empty(found, config)
    full = [file for file in found if file.size_bytes]
    _check_partitions(full, config.partitions)
    selected = [file for file in full if file.is_in(config.partitions)]
    wanted = [name for name in columns if name not in dict(full[0].partition)]
    footers = read_footers([file.path for file in selected or full[:1]], counted=wanted)
    _check_columns(footers, wanted, merges=config.merge_schema)
    refuse_nanoseconds(footers, as_long=nanos_as_long)
    if config.on_bad_row == "error" and config.filter is None:
        needed = [name for name in columns if name not in defaulted]
        _refuse_null_partitions(selected, footers, needed)
    return InputFiles(
        tuple(roots), tuple(found), tuple(selected), tuple(footers), config.merge_schema
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


def _check_empty(found: Sequence[InputFile], config: InputConfig) -> None:
    empty = [file.path for file in found if not file.size_bytes]
    if len(empty) == len(found):
        raise DataError(
            f"input {', '.join(config.paths)} holds no Parquet file with content "
            f"({len(empty)} of zero bytes); nothing was written, check input.paths"
        )
    if empty and config.strict_files:
        raise DataError(
            f"{_named(empty)}: zero bytes and input.strict_files is on; nothing was written"
        )
    if empty:
        log.warning("%s: zero bytes, skipped (input.strict_files refuses them)", _named(empty))


def _check_partitions(files: Sequence[InputFile], partitions: Mapping[str, str | None]) -> None:
    there = [column for column, _ in files[0].partition]
    for column in partitions:
        if column not in there:
            raise SchemaError(
                f"input.partitions names {column!r}, by which the input is not partitioned "
                f"(partitioned by: {', '.join(there) or 'nothing'}); use input.filter for a "
                "column inside the files"
            )


def _check_columns(footers: Sequence[Footer], wanted: Sequence[str], *, merges: bool) -> None:
    first = footers[0]
    for name in wanted:
        lacking = [footer.path for footer in footers if name not in footer.columns]
        if lacking and (not merges or len(lacking) == len(footers)):
            lacks = next(f for f in footers if name not in f.columns)
            raise SchemaError(
                f"input: {missing_column(name, list(lacks.columns))} (files: {_named(lacking)}); nothing was written"
            )
    for footer in () if merges else footers[1:]:
        for name in {**first.columns, **footer.columns}:
            here, there = first.columns.get(name), footer.columns.get(name)
            if here != there:
                raise SchemaError(
                    f"input files do not agree on column {name!r}: {here or 'missing'} in "
                    f"{first.path}, {there or 'missing'} in {footer.path}; nothing was written, "
                    "rewrite one of them, or read what both hold with input.merge_schema: true"
                )


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
        _refuse_nulls(name, count, rows, "the rows that are read")
    return int(rows)


def refuse_known_nulls(footers: Sequence[Footer], columns: Sequence[str]) -> None:
    """Does nothing if no footer tells of a null in one of `columns`.

    Raises:
        DataError: one does; names the first column and file.
    """
    for footer in footers:
        for name in columns:
            _refuse_nulls(name, footer.nulls.get(name) or 0, footer.rows, str(footer.path))


def _refuse_null_partitions(
    files: Sequence[InputFile], footers: Sequence[Footer], columns: Sequence[str]
) -> None:
    for file, footer in zip(
        files, footers, strict=False
    ):  # of no selected file there is one footer
        for name, value in file.partition:
            if name in columns and value is None:
                _refuse_nulls(name, footer.rows, footer.rows, str(file.path))


def _refuse_nulls(name: str, nulls: int, rows: int, where: str) -> None:
    if nulls:
        raise DataError(
            f"column {name!r}: {count_of(nulls, 'null')} among {count_of(rows, 'row')} in {where}; the model takes "
            f"none, nothing was written; leave them out with input.filter: {name} is not null, or choose "
            "input.on_bad_row"
        )


def _named(paths: Sequence[Path]) -> str:
    more = f" (+{len(paths) - _SHOWN})" if len(paths) > _SHOWN else ""
    return ", ".join(map(str, paths[:_SHOWN])) + more


def _described(config: InputConfig) -> str:
    parts = [f"{name}={value or HIVE_NULL}" for name, value in config.partitions.items()]
    if config.filter:
        parts.append(f"filter {config.filter}")
    return ", ".join(parts) or ", ".join(config.paths)
