"""A run whose workers write, without Spark: here, or in a process that is killed on the way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from kvspark.spark.output.target import Target
from kvspark.spark.runs.run_report import REPORT_FOLDER
from kvspark.spark.writing.write_task import WriteTask
from kvspark.table.file_written import FileWritten
from kvspark.table.publish.files.attempt_files import AttemptFiles
from kvspark.table.sink_options import SinkOptions
from tests.spark.publishing import report_of, target_at

SCHEMA = pa.schema([("content", pa.string()), ("kind", pa.int64())])
ROWS = 30
TASKS = 2


def task_of(attempts: AttemptFiles, by: tuple[str, ...] = ("kind",)) -> WriteTask:
    """What writes the batches that it is given; a file for each few rows."""
    options = SinkOptions(group_rows=5, file_bytes=1)
    return WriteTask(iter, attempts.place, attempts.attempt, SCHEMA, by, options)


def batches(content: str) -> Iterator[pa.RecordBatch]:
    """The rows of a task, in two parts."""
    for _ in range(2):
        half = ROWS // 2
        yield pa.record_batch([[content] * half, [n % 2 for n in range(half)]], schema=SCHEMA)


def name_of(attempts: AttemptFiles, task: int, attempt: int) -> str:
    """What the files of one attempt of a task are called."""
    return f"part-{task:05d}-{attempts.attempt}-{attempt}"


def write_all(attempts: AttemptFiles, content: str) -> list[FileWritten]:
    """The files that count; those of a lost attempt of each task lie beside them."""
    task = task_of(attempts)
    told: list[FileWritten] = []
    for number in range(TASKS):
        list(task.steps(name_of(attempts, number, 1), batches("lost")))
        made = task.steps(name_of(attempts, number, 2), batches(content))
        told += (each for each in made if isinstance(each, FileWritten))
    return told


def run(target: Target, content: str) -> None:
    """One run, whose id is what its rows say."""
    with target.lock(content):
        target.recover()
        staged = target.stage(content)
        attempts = AttemptFiles(staged)
        attempts.open()
        try:
            attempts.take(write_all(attempts, content))
        finally:
            attempts.sweep()
        report_of(target.path, content).write(staged / REPORT_FOLDER)
        target.publish(staged)


def run_at(out: Path, content: str) -> None:
    """As `run`, by the path of the output."""
    run(target_at(out), content)
