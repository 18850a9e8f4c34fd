"""An output folder on a POSIX file system, for a run."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import final

from pyspark.sql.types import StructType

from kvspark.config.job import JobConfig
from kvspark.errors import OutputError
from kvspark.fault import fault_point
from kvspark.spark.badrows.quarantine_files import collected
from kvspark.spark.output.appended import add_to, replace_partitions
from kvspark.spark.output.output_check import Written, check_written
from kvspark.spark.output.target import Target
from kvspark.spark.publishing.run_target import RunTarget, Staging
from kvspark.spark.publishing.written_rows import write_rows
from kvspark.spark.runs.history import PastRun, add_run, drop_taken, write_report
from kvspark.spark.runs.run_report import RunReport
from kvspark.spark.scoring.bad_rows import BadRowOutput
from kvspark.spark.scoring.score import ScoredTable
from kvspark.table.merge.row_ids import RowIds
from kvspark.table.place.local_place import LocalPlace
from kvspark.table.place.place import Place


@final
class FolderTarget(RunTarget):
    """What `target` is to a run of `config`."""

    def __init__(self, target: Target, config: JobConfig) -> None:
        self._target = target
        self._config = config

    @property
    def url(self) -> str:
        return str(self._target.path)

    @property
    def notes(self) -> Path:
        return self._target.path

    @property
    def is_there(self) -> bool:
        return self._target.path.exists()

    @property
    def is_published(self) -> bool:
        return self._target.is_published

    def check(self) -> None:
        self._target.check()

    def lock(self, run_id: str) -> AbstractContextManager[object]:
        return self._target.lock(run_id)

    def recover(self) -> int:
        return self._target.recover()

    def begin(self, run_id: str) -> Staging:
        return _FolderStaging(self._target, self._config, run_id)

    def keep(self, run: PastRun) -> None:
        if self.is_there:
            add_run(self._target.path, run)

    def drop_kept(self) -> None:
        drop_taken(self._target.path)

    def left(self) -> str | None:
        left = self._target.staged()
        return str(left[0]) if left else None


@final
class _FolderStaging(Staging):
    """A folder beside the output, which takes its place."""

    def __init__(self, target: Target, config: JobConfig, run_id: str) -> None:
        self._target = target
        self._config = config
        self._run_id = run_id
        self._staged = target.stage(run_id)
        self._bad = self._staged.with_name(f"{self._staged.name}.bad")

    def bad_rows(self) -> tuple[Place, str]:
        try:
            self._bad.mkdir(parents=True)
        except OSError as exc:
            raise OutputError(
                f"the output cannot be staged in {self._bad.parent} ({exc.strerror}); nothing was published"
            ) from exc
        return LocalPlace(str(self._bad)), ""

    def write(self, table: ScoredTable) -> str:
        return write_rows(table, self._staged, self._config)

    def validated(
        self, schema: StructType, rows: int, bad_rows: BadRowOutput, changed: RowIds | None
    ) -> Written:
        del changed  # single rows of a folder are not replaced
        quarantined = collected(bad_rows.aside(), self._bad, self._staged)
        fault_point("collected")
        written = check_written(
            self._staged,
            rows=rows,
            schema=schema,
            quarantined=quarantined,
            partition_by=self._config.output.partition_by,
        )
        join = {"append": add_to, "replace_partitions": replace_partitions}
        if self._config.output.mode in join:
            join[self._config.output.mode](self._target.path, self._staged, self._run_id)
        return written

    def report(self, report: RunReport) -> None:
        write_report(report, self._staged, output=self._target.path)

    def publish(self) -> None:
        self._target.publish(self._staged)

    def discard(self) -> None:
        self._target.discard(self._staged)
        self._target.discard(self._bad)
