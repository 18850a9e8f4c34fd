"""One Parquet file while it is written."""

from __future__ import annotations

from contextlib import suppress
from typing import final

import pyarrow as pa
import pyarrow.parquet as pq

from kvspark.table.encodings import with_dictionary, zstd_levels
from kvspark.table.file_written import FileWritten, column_ranges
from kvspark.table.hashed_stream import HashedStream
from kvspark.table.place.place import Place
from kvspark.table.sink_options import SinkOptions


@final
class PartFile:
    """A file of a sink; nothing of it is complete before `close`."""

    def __init__(
        self,
        place: Place,
        name: str,
        schema: pa.Schema,
        options: SinkOptions,
        *,
        folder: str = "",
    ) -> None:
        self._name = name
        self._folder = folder
        self._rows = 0
        self._last_group = 0
        self.held_bytes = 0
        """About what the file keeps in memory while it is open: pyarrow ends a row group when the next one begins."""
        self._footers: list[pq.FileMetaData] = []
        self._stream = HashedStream(place.create(place.path(name, folder)))
        try:
            self._writer = pq.ParquetWriter(
                self._stream,
                schema,
                compression="none"
                if options.compression == "uncompressed"
                else options.compression,
                compression_level=zstd_levels(schema) if options.compression == "zstd" else None,
                use_dictionary=with_dictionary(schema),
                store_schema=False,  # Spark does not write Arrow's, and readers would believe it
                store_decimal_as_integer=True,
                write_page_checksum=True,
                write_page_index=True,
                metadata_collector=self._footers,
            )
            # Not by the schema: with `store_schema` off its metadata is left out.
            self._writer.add_key_value_metadata(schema.metadata or {})
        except BaseException:
            self._stream.abandon()
            raise

    def write_group(self, rows: pa.Table) -> None:
        """Writes `rows` as one row group.

        Raises:
            OSError: the file system refused.
        """
        before = self._stream.tell()
        self._writer.write_table(rows, row_group_size=max(1, rows.num_rows))
        self._rows += rows.num_rows
        self._last_group = self._stream.tell() - before
        self.held_bytes = rows.nbytes

    def is_full(self, most_bytes: int) -> bool:
        """True if the file would be larger than `most_bytes` with another row group like the last one."""
        return self._stream.tell() + self._last_group > most_bytes

    def close(self) -> FileWritten:
        """What is known of the file, which is complete now.

        Raises:
            OSError: the file system refused.
        """
        self._writer.close()
        self._stream.close()
        columns = column_ranges(self._footers[0])
        return FileWritten(
            self._name, self._folder, self._rows, self._stream.tell(), self._stream.sha256, columns
        )

    def abandon(self) -> None:
        """Leaves nothing of the file."""
        self._stream.abandon()
        with suppress(OSError, RuntimeError, ValueError, pa.ArrowException):  # it goes nowhere now
            self._writer.close()
