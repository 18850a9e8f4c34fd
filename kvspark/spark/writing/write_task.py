"""What Spark runs on each partition where the workers write: batches in, a row for each file out.

Each attempt of a task has names of its own. What it writes counts once Spark has brought its rows to the
driver, which happens for one attempt of each task; see `attempt_files`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
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
"""The rows that a task gives the driver: a `FileWritten` as JSON each, or null."""


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
        """A row for each file that is complete; and as many nulls as rows were written, of which Spark shows the number.

        Raises:
            OutputError: the place refused.
        """
        context = TaskContext.get()
        partition = 0 if context is None else context.partitionId()
        attempt = 0 if context is None else context.taskAttemptId()
        for made in self.steps(f"part-{partition:05d}-{self.attempt}-{attempt}", batches):
            if isinstance(made, FileWritten):
                yield pa.record_batch([[json.dumps(made.to_json())]], names=[FILE_COLUMN])
            else:
                yield pa.record_batch([pa.nulls(made, pa.string())], names=[FILE_COLUMN])

    def steps(
        self, name: str, batches: Iterable[pa.RecordBatch]
    ) -> Generator[FileWritten | int, None, None]:
        """The files that are called `name`, each once it is complete, and the rows of each batch once they are added.

        Raises:
            OutputError: the place refused.
        """
        sink = Sink(self.place, name, self.schema, self.options, partition_by=self.partition_by)
        # It ends here and now, whoever stops: what waits in it is remembered.
        with closing(_made(self.rows(batches))) as rows:
            try:
                for batch in rows:
                    with _refusals(self.place.url):
                        yield from _told(sink.add(batch))
                    yield batch.num_rows
                    fault_point("task_batch")
                with _refusals(self.place.url):
                    yield from _told(sink.finish())
            except BaseException:
                sink.abandon()
                raise


def _made(batches: Iterator[pa.RecordBatch]) -> Generator[pa.RecordBatch, None, None]:
    yield from batches


def _told(files: Iterator[FileWritten]) -> Iterator[FileWritten]:
    for file in files:
        fault_point("task_file")
        yield file


@contextmanager
def _refusals(url: str) -> Iterator[None]:
    """Tells what the place refuses; what fails where rows are made is raised as it is."""
    try:
        yield
    except OSError as exc:
        raise _refused(url, exc) from None


def _refused(folder: str, exc: OSError) -> OutputError:
    if not exc.errno:  # an object store's, which says what and where
        return OutputError(
            f"rows cannot be written: {exc}; nothing was published, every worker needs the credentials and settings that "
            "the driver has, in its environment"
        )
    why = os.strerror(exc.errno).lower()
    return OutputError(
        f"rows cannot be written to {folder} ({why}); nothing was published, every worker must be able to write "
        "where the output goes, and there must be room"
    )
