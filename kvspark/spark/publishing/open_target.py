"""The target of a job, as its conf has it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kvspark.config.job import JobConfig
from kvspark.config.table.output_table import OutputConfig
from kvspark.errors import UsageError
from kvspark.spark.output.job_target import target_of
from kvspark.spark.output.target_place import refuse_overlap
from kvspark.spark.publishing.folder_target import FolderTarget
from kvspark.spark.publishing.open_publisher import publisher_of
from kvspark.spark.publishing.publisher_target import PublisherTarget
from kvspark.spark.publishing.run_target import RunTarget
from kvspark.spark.tables.paths import local_path
from kvspark.table.objects.storage import HDFS, is_remote


def refuse_own_rows(config: JobConfig, files: Sequence[str]) -> None:
    """Does nothing if none of `files`, which a run of `config` reads, lies where its output goes.

    Only a query reads what its conf does not name.

    Raises:
        UsageError: one does.
    """
    output = config.output
    if config.input.sql is not None and output.format != "iceberg" and not is_remote(output.path):
        read = [Path(name) for name in files if name.startswith("/")]
        refuse_overlap(local_path(output.path, what="output path"), read)


def open_target(config: JobConfig, *, inputs: Sequence[Path] = ()) -> RunTarget:
    """The target of a run of `config`, whose rows come from `inputs`; nothing is touched.

    Raises:
        UsageError, OutputError: as `Target` and the publishers: an output cannot go there, or a run that adds to it
            has no name.
    """
    is_added = config.output.mode == "append"
    is_named = config.run.id is not None or config.run.logical_date is not None
    if not is_named and (is_added or config.input.changed_since is not None):
        what = "output.mode: append" if is_added else "input.changed_since"
        raise UsageError(
            f"{what} needs run.id or run.logical_date (--run-id, --run-date): a run of the same name does the same again, and one "
            "of another name goes on from there; nothing was written"
        )
    publisher = publisher_of(config)
    if publisher is None:
        return FolderTarget(target_of(config, inputs=inputs), config)
    _refuse(config.output)
    if config.output.format == "delta" and not is_remote(config.output.path):
        refuse_overlap(Path(publisher.url), inputs, ())
    publisher.check(config.run_id())
    return PublisherTarget(publisher, config)


def _refuse(output: OutputConfig) -> None:
    is_hdfs = output.path.lower().startswith(f"{HDFS}://")
    where = "HDFS" if is_hdfs else "an object store"
    kinds = {"parquet": f"in {where} ({output.path})", "delta": "a Delta table"}
    what = kinds.get(output.format, "an Iceberg table")
    if "writer" in output.model_fields_set and output.writer == "spark":
        raise UsageError(
            f"output.writer is spark, and the output is {what}, which the workers write; nothing was written, leave "
            "output.writer out, or set it to arrow"
        )
