"""The rows of one split as Arrow batches, in the types of the table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kvspark.errors import DataError, SecretError
from kvspark.table.input.fields import places_of
from kvspark.table.input.shaped import shaped
from kvspark.table.input.splits import Piece
from kvspark.table.input.table_file import TableFile
from kvspark.table.objects.objects import ObjectChangedError

_MOST_BYTES = 16 << 20


@final
@dataclass(frozen=True, slots=True)
class SplitReader:
    """Reads splits of a table; a value that travels to workers."""

    files: Sequence[TableFile]
    splits: Sequence[tuple[Piece, ...]]
    schema: pa.Schema
    """The table's columns. One that a file has not, by whatever case of its name, is null in its rows."""
    most_rows: int
    """Of a batch."""
    places: tuple[str, str] | None = None
    """The names of two more columns: the file of a row, and its place there."""
    called: str = "input"
    """What messages call the table."""

    def batches(self, split: int) -> Iterator[pa.RecordBatch]:
        """The rows of split number `split`, in the order of its files.

        Raises:
            DataError: a file is not there any more, has changed, or cannot be read to its end; names it.
            SecretError: the object store refuses the credentials.
        """
        for piece in self.splits[split]:
            with self.reading(self.files[piece.file]):
                yield from self._rows(self.files[piece.file], piece)

    @contextmanager
    def reading(self, file: TableFile) -> Iterator[None]:
        """What goes wrong while `file` is read, in one line.

        Raises:
            DataError, SecretError: as `batches`.
        """
        try:
            yield
        except PermissionError as exc:
            raise SecretError(f"{self.called}: {exc}; nothing was published") from None
        except ObjectChangedError as exc:
            raise DataError(
                f"{self.called} file {exc}; nothing was published, start the run again when the {self.called} is complete"
            ) from None
        except (OSError, pa.ArrowException) as exc:
            raise DataError(
                f"{self.called} file {file.pinned.name} cannot be read to its end ({_why(exc)}); nothing was published, "
                "write it again, or start the run again if the store did not answer"
            ) from None

    def _rows(self, file: TableFile, piece: Piece) -> Iterator[pa.RecordBatch]:
        with pq.ParquetFile(
            file.pinned.open(),
            pre_buffer=True,
            coerce_int96_timestamp_unit="us",
            page_checksum_verification=True,
        ) as parquet:
            row = piece.first_row
            names = self.names(parquet.schema_arrow)
            size = min(self.most_rows, _rows_of_a_batch(parquet.metadata, piece.groups, names))
            for groups in _read_at_once(parquet.schema_arrow, piece.groups):
                for batch in parquet.iter_batches(size, row_groups=groups, columns=names):
                    yield self.made(batch, file, row)
                    row += batch.num_rows

    def names(self, there: pa.Schema) -> list[str] | None:
        """The columns of a file that are read; None for all."""
        places = [place for place in places_of(self.schema, there) if place is not None]
        return None if len(places) == len(there) else [there.field(place).name for place in places]

    def made(self, batch: pa.RecordBatch, file: TableFile, row: int) -> pa.RecordBatch:
        """The rows of `batch`, which `file` has from place `row` on, as rows of the table."""
        arrays = []
        for field, place in zip(self.schema, places_of(self.schema, batch.schema), strict=True):
            if field.name in file.values:
                arrays.append(_repeated(file.values[field.name], batch.num_rows, field.type))
            elif place is None:
                arrays.append(pa.nulls(batch.num_rows, field.type))
            else:
                arrays.append(shaped(batch.column(place), field.type))
        fields = list(self.schema)
        if self.places is not None:
            fields += [pa.field(self.places[0], pa.string(), nullable=False)]
            fields += [pa.field(self.places[1], pa.int64(), nullable=False)]
            arrays.append(_repeated(file.pinned.name, batch.num_rows, pa.string()))
            arrays.append(pa.array(np.arange(row, row + batch.num_rows), pa.int64()))
        made = pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))
        if file.deleted is None:
            return made
        return made.filter(pa.array(file.deleted.kept(row, batch.num_rows)))


def _repeated(value: object, rows: int, kind: pa.DataType) -> pa.Array:
    return pa.repeat(pa.scalar(value, kind), rows)


def _read_at_once(schema: pa.Schema, groups: Sequence[int]) -> list[list[int]]:
    """The row groups that Arrow can read one after the other."""
    # Each row group has its own dictionary, and Arrow joins none of them inside a list or a struct.
    if any(_holds_dictionary(field.type) for field in schema):
        return [[group] for group in groups]
    return [list(groups)]


def _holds_dictionary(kind: pa.DataType) -> bool:
    inside = [kind.field(place).type for place in range(kind.num_fields)]
    return any(pa.types.is_dictionary(each) or _holds_dictionary(each) for each in inside)


def _rows_of_a_batch(
    metadata: pq.FileMetaData, groups: Sequence[int], names: Sequence[str] | None
) -> int:
    """That take about `_MOST_BYTES`, with the columns `names` alone where they are given."""
    chosen = [metadata.row_group(group) for group in groups]
    rows = max(1, sum(group.num_rows for group in chosen))
    a_row = max(1, sum(_size_bytes(group, names) for group in chosen) // rows)
    return int(max(1, _MOST_BYTES // a_row))


def _size_bytes(group: pq.RowGroupMetaData, names: Sequence[str] | None) -> int:
    if names is None:
        return int(group.total_byte_size)
    chunks = (group.column(place) for place in range(group.num_columns))
    read = {*names}
    return sum(
        chunk.total_uncompressed_size
        for chunk in chunks
        if chunk.path_in_schema.partition(".")[0] in read
    )


def _why(exc: Exception) -> str:
    """What is wrong, without what a row holds, which Arrow's errors quote."""
    if isinstance(exc, OSError) and not isinstance(exc, pa.ArrowException):
        return " ".join(str(exc).split())
    return "a damaged page, or it changed"
