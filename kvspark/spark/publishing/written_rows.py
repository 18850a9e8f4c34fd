"""The rows of a run as Parquet files, in the folder of its attempt."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from pyspark.sql import DataFrame, DataFrameWriter

from kvspark.config.job import JobConfig
from kvspark.config.table.output_table import OutputConfig
from kvspark.spark.output.appended import int96_column
from kvspark.spark.publishing.output_columns import check_output
from kvspark.spark.scoring.score import ScoredTable
from kvspark.spark.tables.paths import local_path
from kvspark.spark.writing.arrow_writer import why_not, write_by_workers

log = logging.getLogger(__name__)


def write_rows(table: ScoredTable, staged: Path, job: JobConfig) -> str:
    """Who wrote the rows of `table`, which are computed, to the folder `staged`: `arrow` or `spark`, and why then.

    Raises:
        UsageError, OutputError: as `check_output`, `write_by_workers`.
    """
    config = job.output
    check_output(job, table.schema)  # of what only Spark knows nothing was said before
    if config.writer == "spark":
        _write_by_spark(table.df(), staged, config)
        return "spark"
    why = why_not(table.source.sparkSession, table.schema, config) or _other_times(config)
    if why is None:
        write_by_workers(table, staged, config)
        return "arrow"
    log.info("output: Spark's writer writes this run, not the workers: %s", why)
    _write_by_spark(table.df(), staged, config)
    return f"spark: {why}"


def _other_times(config: OutputConfig) -> str | None:
    """Why Spark must write what is added to a table: readers would find timestamps in two forms."""
    if config.mode == "replace":
        return None
    column = int96_column(local_path(config.path, what="output path"))
    return (
        None
        if column is None
        else f"column {column!r} is INT96 in the table that rows are added to"
    )


def _write_by_spark(df: DataFrame, staged: Path, config: OutputConfig) -> None:
    _writer(df, config).partitionBy(*config.partition_by).parquet(str(staged))
    if config.partition_by and not any(staged.rglob("part-*.parquet")):
        # Without rows there are no folders, and nothing would say what the columns are.
        shutil.rmtree(staged)
        _writer(df, config).parquet(str(staged))


def _writer(df: DataFrame, config: OutputConfig) -> DataFrameWriter:
    return (
        df.write.mode("errorifexists")
        .option("compression", config.compression)
        .option("parquet.page.write-checksum.enabled", "true")
        # Version 2 lets the files of a failed task be seen.
        .option("mapreduce.fileoutputcommitter.algorithm.version", "1")
    )
