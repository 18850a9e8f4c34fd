"""What Spark runs on each partition where the workers write: batches in, a row for each file out.

Each attempt of a task has names of its own. What it writes counts once Spark has brought its rows to the
driver, which happens for one attempt of each task; see `attempt_files`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import final

import pyarrow as pa
from pyspark import TaskContext

from kvspark.errors import OutputError
from kvspark.fault import fault_point
from kvspark.table.file_written import FileWritten
from kvspark.table.place.place import Place
from kvspark.table.sink import Sink
from kvspark.table.sink_options import SinkOptions

FILE_COLUMN = "file"
FILES_SCHEMA = f"{FILE_COLUMN} string"
"""The rows that a task gives the driver: a `FileWritten` as JSON each."""


@final
@dataclass(frozen=True, slots=True)
class WriteTask:
    """The function that Spark runs on each partition."""

    rows: Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]
    """What makes the rows of the output of the batches that Spark gives."""
    place: Place
    """Where tasks write."""
    attempt: str
    """Of the run; part of every name."""
    schema: pa.Schema
    """Of all columns, as files have them."""
    partition_by: tuple[str, ...]
    options: SinkOptions

    def run(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """A row for each file that is complete.

        Raises:
            OutputError: the file system refused.
        """
        context = TaskContext.get()
        partition = 0 if context is None else context.partitionId()
        attempt = 0 if context is None else context.taskAttemptId()
        name = f"part-{partition:05d}-{self.attempt}-{attempt}"
        for file in self.files(name, batches):
            yield pa.record_batch([[json.dumps(file.to_json())]], names=[FILE_COLUMN])

    def files(self, name: str, batches: Iterable[pa.RecordBatch]) -> Iterator[FileWritten]:
        """The files that are called `name`, each once it is complete.

        Raises:
            OutputError: the file system refused.
        """
        sink = Sink(
            self.place,
            name,
            self.schema,
            self.options,
            partition_by=self.partition_by,
        )
        made = _Rows(self.rows(batches))
        # Both end here and now, whoever stops: what waits in them is remembered or deleted.
        with closing(made.read()) as rows, closing(sink.write(rows)) as files:
            try:
                for file in files:
                    fault_point("task_file")
                    yield file
            except OSError as exc:
                if exc is made.failure:
                    raise
                raise _refused(self.place.url, exc) from None


@final
class _Rows:
    """The rows of a task; tells what fails where they are made from what fails where they are written."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches = batches
        self.failure: Exception | None = None

    def read(self) -> Generator[pa.RecordBatch, None, None]:
        try:
            for batch in self._batches:
                yield batch
                fault_point("task_batch")
        except Exception as exc:  # told from what the file system raises, and raised as it is
            self.failure = exc
            raise


def _refused(folder: str, exc: OSError) -> OutputError:
    why = os.strerror(exc.errno).lower() if exc.errno else "disk trouble"
    return OutputError(
        f"rows cannot be written to {folder} ({why}); nothing was published, every worker must be able to write "
        "where the output goes, and there must be room"
    )
