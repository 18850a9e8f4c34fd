"""The same files in a folder and in an object store, or in HDFS."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from kvspark.config.table.input_table import InputConfig
from kvspark.spark.badrows.first_bad_row import place_in_file
from kvspark.spark.sources.find_input import find_input
from kvspark.spark.sources.input.found_input import FoundInput
from kvspark.spark.sources.input.located import PLACES
from kvspark.spark.sources.input.source import Source, read_source
from kvspark.table.objects.storage import Storage
from kvspark.table.place.opening import open_objects
from tests.object_double import ObjectDouble
from tests.object_server import S3Address


@contextmanager
def workers_reach(s3: S3Address | ObjectDouble, spark: SparkSession) -> Iterator[str]:
    """A URL below which nothing is; workers have what names its server: the session may be older than that."""
    environment = spark.sparkContext.environment
    environment.update(s3.environment)
    try:
        yield f"{s3.url}/{secrets.token_hex(4)}"
    finally:
        for name in s3.environment:
            environment.pop(name)


@contextmanager
def remote_folder(kind: str, request: pytest.FixtureRequest, spark: SparkSession) -> Iterator[str]:
    """A URL of `s3`, `gcs`, `azure` or `hdfs` below which nothing is."""
    if kind == "hdfs":
        yield f"{request.getfixturevalue('hdfs').url}/{secrets.token_hex(4)}"
        return
    with workers_reach(request.getfixturevalue(kind), spark) as url:
        yield url


def upload(folder: Path, url: str) -> str:
    """`url`, once all that is in `folder` is there too."""
    objects = open_objects(Storage(url))
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            objects.put(path.relative_to(folder).as_posix(), path.read_bytes())
    return url


def found(path: Path | str, *, columns: tuple[str, ...] = (), **conf: Any) -> FoundInput:
    """What `path` is as an input."""
    config = InputConfig.checked(paths=[str(path)], **conf)
    return find_input(config, settings={}, columns=columns)


def source(
    spark: SparkSession, path: Path | str, *, columns: tuple[str, ...] = (), **conf: Any
) -> Source:
    """What a job reads of `path`."""
    config = InputConfig.checked(paths=[str(path)], **conf)
    there = find_input(config, settings={}, columns=columns)
    return read_source(spark, config, there, columns=columns)


def rows_of(source: Source, root: Path | str) -> pa.Table:
    """All rows with their places below `root`, in one order."""
    file, row = PLACES
    table = source.located().orderBy(file, row).toArrow()
    names = [place_in_file(name, 0).removeprefix(str(root)) for name in table[file].to_pylist()]
    return table.set_column(table.column_names.index(file), file, pa.array(names))


def bits(table: pa.Table) -> list[Any]:
    """The buffers of `table`, by which NaN is NaN."""
    return [[repr(value) for value in column.to_pylist()] for column in table.columns]
