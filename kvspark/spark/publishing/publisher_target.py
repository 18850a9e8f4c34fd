"""What a publisher publishes to, for a run: workers write there, and the driver commits what counts.

The report and the history of what is published are brought to a folder on this machine, in which everything that
reads those of a run finds them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import final

import pyarrow as pa
from pyspark.sql.types import StructType

from kvspark.config.job import JobConfig
from kvspark.errors import OutputError, ValidationError
from kvspark.fault import fault_point
from kvspark.spark.badrows.quarantine import QUARANTINE_FOLDER
from kvspark.spark.output.output_check import Written
from kvspark.spark.output.own_input import refuse_own_input
from kvspark.spark.publishing.brought_notes import NOTES, brought_notes
from kvspark.spark.publishing.locked import locked
from kvspark.spark.publishing.output_columns import check_output
from kvspark.spark.publishing.run_target import RunTarget, Staging
from kvspark.spark.runs.history import PastRun, line_of, write_report
from kvspark.spark.runs.run_report import RunReport
from kvspark.spark.runs.unpublished import unpublished_lines
from kvspark.spark.scoring.bad_rows import Aside, BadRowOutput
from kvspark.spark.scoring.score import ScoredTable
from kvspark.spark.session.interrupt import held
from kvspark.spark.writing.arrow_writer import files_of, sink_options, why_not
from kvspark.spark.writing.file_schema import file_schema
from kvspark.spark.writing.rewriting_by_workers import rewritten_by_workers
from kvspark.table.file_written import FileWritten
from kvspark.table.merge.merging import Merge, MergedFiles
from kvspark.table.merge.rewriting import RunAll
from kvspark.table.merge.row_ids import RowIds
from kvspark.table.place.place import Place
from kvspark.table.publish.publisher import Attempt, Content, Publisher
from kvspark.table.sink import Sink
from kvspark.wording import count_of


@final
class PublisherTarget(RunTarget):
    """The target of `publisher`."""

    def __init__(self, publisher: Publisher, config: JobConfig) -> None:
        self._publisher = publisher
        self._config = config
        self._notes: Path | None = None
        self._staging: _AttemptStaging | None = None

    @property
    def url(self) -> str:
        return self._publisher.url

    @property
    def notes(self) -> Path:
        assert self._notes is not None
        return self._notes

    @property
    def is_there(self) -> bool:
        return self._publisher.current() is not None

    @property
    def is_published(self) -> bool:
        return self._staging is not None and self._staging.is_published

    def check(self) -> None:
        self._publisher.check(self._config.run_id())

    @contextmanager
    def lock(self, run_id: str) -> Iterator[None]:
        with locked(self._publisher, run_id), self.reading():
            refuse_own_input(self._config)
            yield

    @contextmanager
    def reading(self) -> Iterator[Path]:
        with brought_notes(self._publisher) as self._notes:
            yield self._notes

    def recover(self) -> int:
        return 0  # by `begin`, which must know first that no other attempt can commit

    def begin(self, run_id: str) -> Staging:
        attempt = self._publisher.prepare(run_id)
        self._staging = _AttemptStaging(self._publisher, attempt, self._config, self.notes)
        return self._staging

    def keep(self, run: PastRun) -> None:
        kept = self._publisher.unpublished()
        if kept is not None and self.is_there:
            kept.add(line_of(run))

    def drop_kept(self) -> None:
        kept, lines = self._publisher.unpublished(), unpublished_lines(self.notes)
        if kept is not None and lines:
            kept.drop(lines)

    def left(self) -> str | None:
        return None


@final
class _AttemptStaging(Staging):
    """An attempt of a publisher."""

    def __init__(
        self, publisher: Publisher, attempt: Attempt, config: JobConfig, notes: Path
    ) -> None:
        self._publisher = publisher
        self._attempt = attempt
        self._config = config
        self._notes = notes
        self._files: tuple[FileWritten, ...] = ()
        self._schema = pa.schema([])
        self._beside: tuple[str, ...] = ()
        self._made = Content((), self._schema)
        self._run_all: RunAll | None = None
        self.is_published = False

    def bad_rows(self) -> tuple[Place, str]:
        return self._attempt.place, QUARANTINE_FOLDER

    def write(self, table: ScoredTable) -> str:
        output = self._config.output
        check_output(self._config, table.schema)
        spark = table.source.sparkSession
        why = why_not(spark, table.schema, output)
        if why is not None:
            raise OutputError(
                f"output path {self._publisher.url} is written by the workers, and they cannot write this table: {why}; "
                "nothing was published, drop or cast that column before the job, or publish Parquet files to a local path"
            )
        self._schema = file_schema(table.schema, output.partition_by, spark.version)
        token = self._attempt.name.rpartition("-")[2]
        self._run_all = partial(rewritten_by_workers, spark, token)
        self._files = tuple(
            files_of(table, self._attempt.place, token, output, self._attempt.file_schema)
        )
        fault_point("staged")
        return "arrow"

    def validated(
        self, schema: StructType, rows: int, bad_rows: BadRowOutput, changed: RowIds | None
    ) -> Written:
        del schema  # the files have it, by which they were written
        aside = bad_rows.aside()
        self._beside = self._aside(aside)
        fault_point("collected")
        quarantined = 0 if aside is None else aside.rows
        written = sum(file.rows for file in self._files)
        if written + quarantined != rows:
            raise ValidationError(
                f"nothing was published: the workers wrote {count_of(written, 'row')} to {self._attempt.place.url} with "
                f"{quarantined:,} quarantined ones, and {rows:,} were read; check that the input does not change during "
                "the run"
            )
        content = self._content(changed)
        merged = content.merged or MergedFiles()
        size_bytes = sum(file.size_bytes for file in content.all_files)
        count = len(content.all_files)
        return Written(written, count, size_bytes, quarantined, merged.replaced, merged.removed)

    def _content(self, changed: RowIds | None) -> Content:
        """What is published, once it is known which rows of the table it replaces."""
        output = self._config.output
        made = Content(self._files, self._schema, output.partition_by, beside=self._beside)
        if output.mode == "merge":
            assert self._run_all is not None
            merge = Merge(output.merge_by, changed, sink_options(output), self._run_all)
            made = self._publisher.merged(self._attempt, made, merge)
        self._made = made
        return made

    def report(self, report: RunReport) -> None:
        staged = self._notes.with_name("staged")
        write_report(report, staged, output=self._notes)

    def publish(self) -> None:
        staged = self._notes.with_name("staged")
        notes = {path: (staged / path).read_bytes() for path in NOTES}
        with held():  # who is told that nothing was published must not find it
            self._publisher.commit(self._attempt, replace(self._made, notes=notes))
            self.is_published = True

    def discard(self) -> None:
        if not self.is_published:
            self._publisher.abort(self._attempt)

    def _aside(self, aside: Aside | None) -> tuple[str, ...]:
        """The files of the rows that are left out, by their paths in the attempt's place."""
        if aside is None:
            return ()
        place = self._attempt.place
        if aside.files:
            names = sorted(name for name, _ in aside.files.values())
            return tuple(place.path(name, QUARANTINE_FOLDER) for name in names)
        # A reader finds a table also after a night without bad rows.
        sink = Sink(place, f"{QUARANTINE_FOLDER}/part-00000", aside.empty.schema)
        try:
            return (sink.write_empty().name,)
        except OSError as exc:
            raise OutputError(f"{exc}; nothing was published") from exc
