"""All rows of one file, with some of its columns alone."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from kvspark.errors import DataError
from kvspark.table.input.split_reader import SplitReader
from kvspark.table.input.splits import Piece
from kvspark.table.input.table_file import TableFile

PLACES = ("_kvspark_file", "_kvspark_row")
"""What the columns are called that say where a row is."""


def rows_in(file: TableFile) -> int:
    """How many rows the file has, deleted ones too.

    Raises:
        OSError, pyarrow.ArrowException: it cannot be read.
    """
    return int(_footer(file).num_rows)


def rows_of(
    file: TableFile, schema: pa.Schema, *, called: str = "input", is_placed: bool = False
) -> Iterator[pa.RecordBatch]:
    """The rows of `file` in the columns `schema`, of which alone is read; with `PLACES` behind them where that is asked.

    `called` is what messages call its table.

    Raises:
        DataError, SecretError: as `SplitReader.batches`.
    """
    try:
        groups = tuple(range(_footer(file).num_row_groups))
    except (OSError, pa.ArrowException):
        raise DataError(
            f"{called} file {file.pinned.name} is gone, or is no readable Parquet; nothing was published, write it again"
        ) from None
    places = PLACES if is_placed else None
    piece = Piece(0, groups, 0)
    yield from SplitReader((file,), ((piece,),), schema, sys.maxsize, places, called).batches(0)


def _footer(file: TableFile) -> pq.FileMetaData:
    with pq.ParquetFile(file.pinned.open()) as parquet:
        return parquet.metadata
