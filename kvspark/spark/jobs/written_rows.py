"""The rows of a run as Parquet files, in the folder of its attempt."""

from __future__ import annotations

import shutil
from pathlib import Path

from pyspark.sql import DataFrame, DataFrameWriter

from kvspark.config.job import JobConfig, OutputConfig
from kvspark.spark.check.opened import check_output


def write_rows(df: DataFrame, staged: Path, job: JobConfig) -> None:
    """Computes the rows of `df`, and writes them to the folder `staged` as the conf says."""
    config = job.output
    check_output(job, df.schema)  # of what only Spark knows nothing was said before
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
