"""Arrow batches to Parquet files in a place.

A task gives its batches to one sink. Rows wait in memory until they are a row group, over all folders
of the table together, and are written then; a file is cut at a size. Open files keep about two row
groups more. Files have names that no other sink has, and say in which folder of the table they belong: whoever
commits them gives them their place, or the place has folders.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import final

import pyarrow as pa

from kvspark.table.conformed import conformed
from kvspark.table.file_written import FileWritten
from kvspark.table.part_file import PartFile
from kvspark.table.partition_folders import PartitionFolders
from kvspark.table.place.place import Place
from kvspark.table.sink_options import SinkOptions

_CLOSED_AT_ONCE = 16


@final
@dataclass(slots=True)
class _Folder:
    """The rows of one folder of the table that wait, and the file to which they go."""

    waiting: list[pa.RecordBatch] = field(default_factory=list)
    rows: int = 0
    size_bytes: int = 0
    file: PartFile | None = None


@final
class Sink:
    """Where one attempt of a task writes its rows."""

    def __init__(
        self,
        place: Place,
        name: str,
        schema: pa.Schema,
        options: SinkOptions | None = None,
        *,
        partition_by: Sequence[str] = (),
    ) -> None:
        """Writes to `place` as `NAME-c000.zstd.parquet` and so on.

        `schema` has all columns, those of `partition_by` too, and the files' own metadata.
        """
        self._place = place
        self._name = name
        self._schema = schema
        self._options = options or SinkOptions()
        self._split = PartitionFolders(schema, partition_by)
        self._folders: OrderedDict[str, _Folder] = OrderedDict()
        self._waiting_bytes = 0
        self._files = 0
        self._closed: list[str] = []

    def write(self, batches: Iterable[pa.RecordBatch]) -> Generator[FileWritten, None, None]:
        """Each file once it is complete; all of them when `batches` end, none where these have no row.

        The columns of `batches` are those of the schema, by their places.

        Guarantees: rows keep their order within a file and within a folder. Where this fails or is
        closed early, all files of this sink are deleted, as far as the file system lets it.

        Raises:
            OSError: the file system refused.
            pyarrow.ArrowInvalid: a value does not fit its column.
        """
        try:
            for batch in batches:
                yield from self.add(batch)
            yield from self.finish()
        except BaseException:
            self.abandon()
            raise

    def add(self, batch: pa.RecordBatch) -> Iterator[FileWritten]:
        """The files that are complete once `batch` is added.

        Raises:
            OSError, pyarrow.ArrowInvalid: as `write`. Call `abandon` then, or where nothing more comes.
        """
        if batch.num_rows:
            yield from self._add(conformed(batch, self._schema))

    def finish(self) -> Iterator[FileWritten]:
        """The files that were not complete yet.

        Raises:
            OSError: as `add`.
        """
        for name, folder in self._folders.items():
            if folder.rows:
                yield from self._write_group(name, folder.rows)
        opened = [folder for folder in self._folders.values() if folder.file is not None]
        # A store takes a while to complete a file, and completes many at once.
        with ThreadPoolExecutor(_CLOSED_AT_ONCE) as pool:
            done = list(pool.map(self._close, opened))
        yield from done

    def abandon(self) -> None:
        """Leaves no file of this sink, as far as the place lets it."""
        for folder in self._folders.values():
            if folder.file is not None:
                folder.file.abandon()
        for path in self._closed:
            with suppress(OSError):
                self._place.delete(path)

    def write_empty(self) -> FileWritten:
        """A file without rows, which says what the columns are; those of all folders too.

        Raises:
            OSError: the file system refused.
        """
        file = PartFile(self._place, self._next_name(), self._schema, self._options)
        file.write_group(self._schema.empty_table())
        return file.close()

    def _add(self, batch: pa.RecordBatch) -> Iterator[FileWritten]:
        for name, rows in self._split.split(batch):
            folder = self._folders.setdefault(name, _Folder())
            self._folders.move_to_end(name)
            folder.waiting.append(rows)
            folder.rows += rows.num_rows
            folder.size_bytes += rows.nbytes
            self._waiting_bytes += rows.nbytes
            while folder.rows >= self._options.group_rows:
                yield from self._write_group(name, self._options.group_rows)
            while self._waiting_bytes >= self._options.group_bytes:
                largest = max(self._folders, key=lambda each: self._folders[each].size_bytes)
                yield from self._write_group(largest, self._folders[largest].rows)

    def _write_group(self, name: str, count: int) -> Iterator[FileWritten]:
        """Writes the first `count` rows that wait in folder `name` as one row group."""
        folder = self._folders[name]
        table = pa.Table.from_batches(folder.waiting)
        rest = table.slice(count)
        rest_bytes = rest.nbytes if rest.num_rows else 0  # no row has an offset all the same
        folder.waiting = rest.to_batches()
        folder.rows -= count
        self._waiting_bytes += rest_bytes - folder.size_bytes
        folder.size_bytes = rest_bytes
        if folder.file is None:
            folder.file = PartFile(
                self._place,
                self._next_name(),
                self._split.inside,
                self._options,
                folder=name,
            )
        folder.file.write_group(table.slice(0, count))
        if folder.file.is_full(self._options.file_bytes):
            yield self._close(folder)
        yield from self._make_room()

    def _make_room(self) -> Iterator[FileWritten]:
        """Closes the files that got no rows for longest, while too many are open or they keep too much."""
        opened = [folder for folder in self._folders.values() if folder.file is not None]
        held = sum(folder.file.held_bytes for folder in opened if folder.file is not None)
        while len(opened) > 1 and (
            len(opened) > self._options.most_open or held > 2 * self._options.group_bytes
        ):
            oldest = opened.pop(0)
            if oldest.file is not None:
                held -= oldest.file.held_bytes
                yield self._close(oldest)

    def _close(self, folder: _Folder) -> FileWritten:
        assert folder.file is not None
        done = folder.file.close()
        self._closed.append(self._place.path(done.name, done.folder))
        folder.file = None
        return done

    def _next_name(self) -> str:
        number, self._files = self._files, self._files + 1
        codec = self._options.compression
        ending = ".parquet" if codec == "uncompressed" else f".{codec}.parquet"
        return f"{self._name}-c{number:03d}{ending}"
