"""The rows of a scored table as files, written by the workers that computed them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
from pyspark.sql import SparkSession
from pyspark.sql.types import StructType

from kvspark.config.table.output_table import OutputConfig
from kvspark.errors import OutputError
from kvspark.spark.scoring.score import ScoredTable
from kvspark.spark.writing.file_schema import file_schema, refusal
from kvspark.spark.writing.write_task import FILE_COLUMN, FILES_SCHEMA, WriteTask
from kvspark.table.file_written import FileWritten
from kvspark.table.place.place import Place
from kvspark.table.publish.files.attempt_files import AttemptFiles
from kvspark.table.publish.publisher import unchanged
from kvspark.table.sink import Sink
from kvspark.table.sink_options import SinkOptions

_MIB = 1 << 20
_OTHER_FORMS = {
    "spark.sql.parquet.writeLegacyFormat": "true",
    "spark.sql.parquet.datetimeRebaseModeInWrite": "LEGACY",
}
"""Settings with which Spark writes what old readers want; only Spark has those forms."""


def why_not(spark: SparkSession, schema: StructType, output: OutputConfig) -> str | None:
    """Why Spark's own writer must write a table of `schema`; None if the workers can."""
    for setting, value in _OTHER_FORMS.items():
        if str(spark.conf.get(setting)).lower() == value.lower():
            return f"{setting} is {value}"
    return refusal(schema, output.partition_by)


def write_by_workers(table: ScoredTable, staged: Path, output: OutputConfig) -> list[FileWritten]:
    """The files in `staged` once `table` is computed; in the folder of each as the conf says.

    Guarantees: as `files_of`; those of attempts that Spark does not count are never in `staged`.

    Raises:
        OutputError, ValidationError: as `AttemptFiles`. What tasks raise comes as Spark's own error.
    """
    attempts = AttemptFiles(staged)
    attempts.open()
    try:
        files = files_of(table, attempts.place, attempts.attempt, output, unchanged)
        attempts.take(files)
    finally:
        attempts.sweep()
    return files


def files_of(
    table: ScoredTable,
    place: Place,
    attempt: str,
    output: OutputConfig,
    schema_of: Callable[[pa.Schema, Sequence[str]], pa.Schema],
) -> list[FileWritten]:
    """The files in `place` once `table` is computed; `attempt` is part of their names, and of no other run's.

    A table without rows has one file, of all columns. `schema_of` makes of the columns as Spark writes them, and those
    of the folders, what the files have.

    Guarantees: the files are those of the attempts of tasks that Spark counts, one of each task. Those of all
    others may be in the place as well.

    Raises:
        OutputError: the place refused. What tasks raise comes as Spark's own error.
    """
    version, options = table.source.sparkSession.version, sink_options(output)
    schema = schema_of(file_schema(table.schema, output.partition_by, version), output.partition_by)
    given, rows = table.in_workers()
    task = WriteTask(rows, place, attempt, schema, output.partition_by, options)
    told = given.mapInArrow(task.run, FILES_SCHEMA).where(f"{FILE_COLUMN} IS NOT NULL").collect()
    files = [FileWritten.from_json(json.loads(row[FILE_COLUMN])) for row in told]
    if files:
        return files
    whole = schema_of(file_schema(table.schema, (), version), output.partition_by)
    try:
        return [Sink(place, f"part-00000-{attempt}-none", whole, options).write_empty()]
    except OSError as exc:
        raise OutputError(f"{exc}; nothing was published") from exc


def sink_options(output: OutputConfig) -> SinkOptions:
    """What the conf says of files; a small file has small row groups, since it has at least one."""
    plain = SinkOptions()
    file_bytes = output.file_mb * _MIB
    return SinkOptions(
        compression=output.compression,
        file_bytes=file_bytes,
        group_rows=output.group_rows,
        group_bytes=min(plain.group_bytes, file_bytes),
    )
