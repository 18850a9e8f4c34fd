"""The files of an input that is not Parquet: which there are, and those of the partitions that are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import final

from kvspark.config.table.input_table import InputConfig
from kvspark.errors import DataError, UsageError
from kvspark.spark.tables.input_files import check_partitions, skip_empty
from kvspark.spark.tables.listing import InputFile, list_files, resolve_paths
from kvspark.spark.tables.paths import hadoop_cannot_open
from kvspark.table.objects.storage import is_remote


@final
@dataclass(frozen=True, slots=True)
class PlainFiles:
    """The files of an input on this machine."""

    roots: tuple[Path, ...]
    found: tuple[InputFile, ...]
    """All files, those of zero bytes and of other partitions included."""
    selected: tuple[InputFile, ...]
    """The files with content in the partitions that are read."""

    @property
    def partition_columns(self) -> tuple[str, ...]:
        """The columns that folder names give."""
        return tuple(column for column, _ in self.found[0].partition)

    @property
    def empty(self) -> int:
        """Files of zero bytes."""
        return sum(1 for file in self.found if not file.size_bytes)


def find_plain_files(config: InputConfig) -> PlainFiles:
    """The files that `config` names; needs no Spark.

    Raises:
        DataError: there is no file, or one of zero bytes where those are refused.
        SchemaError: the files are not partitioned by what `config` chooses partitions by.
        UsageError: a path is not of this machine.
    """
    for path in filter(is_remote, config.paths):
        raise UsageError(
            f"input path {path}: there kvspark reads Parquet, and input.format is {config.format}; write the rows to Parquet "
            "first, or copy the files to a disk that driver and workers share"
        )
    roots = resolve_paths(config.paths)
    found = list_files(roots)
    if not found:
        raise DataError(
            f"input {', '.join(config.paths)} holds no file; nothing was written, check input.paths"
        )
    for file in found:
        if hadoop_cannot_open(file.name):
            raise DataError(
                f"input file {file.name} has a colon in its name, and Spark opens no such file; nothing was written, rename it"
            )
    check_partitions(found, config.partitions)
    skip_empty(found, config)
    selected = [file for file in found if file.size_bytes and file.is_in(config.partitions)]
    return PlainFiles(tuple(roots), tuple(found), tuple(selected))
