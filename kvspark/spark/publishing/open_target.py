"""The target of a job, as its conf has it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from kvspark.config.job import JobConfig, OutputConfig
from kvspark.errors import UsageError
from kvspark.spark.output.job_target import target_of
from kvspark.spark.output.target_place import refuse_overlap
from kvspark.spark.publishing.folder_target import FolderTarget
from kvspark.spark.publishing.output_place import is_objects, publishes_folders
from kvspark.spark.publishing.publisher_target import PublisherTarget
from kvspark.spark.publishing.run_target import RunTarget
from kvspark.spark.tables.paths import local_path
from kvspark.table.delta.delta_publisher import DeltaPublisher
from kvspark.table.iceberg.opening import iceberg_publisher
from kvspark.table.iceberg.target import IcebergTarget
from kvspark.table.objects.storage import Storage
from kvspark.table.publish.object_publisher import ObjectPublisher
from kvspark.table.publish.publisher import Publisher

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://[^/]+/.+")


def open_target(config: JobConfig, *, inputs: Sequence[Path] = ()) -> RunTarget:
    """The target of a run of `config`, whose rows come from `inputs`; nothing is touched.

    Raises:
        UsageError, OutputError: as `Target` and the publishers: an output cannot go there.
    """
    publisher = publisher_of(config)
    if publisher is None:
        return FolderTarget(target_of(config, inputs=inputs), config)
    _refuse(config.output)
    if config.output.format == "delta" and not is_objects(config.output.path):
        refuse_overlap(Path(publisher.url), inputs, ())
    publisher.check()
    return PublisherTarget(publisher, config)


def publisher_of(config: JobConfig) -> Publisher | None:
    """What publishes the output of `config`; None for Parquet files in a folder on a POSIX file system.

    Raises:
        UsageError: the URL or a setting names nothing that can be opened.
    """
    output = config.output
    if publishes_folders(output):
        return None
    owner, keep, overwrite = config.run.name, output.keep, output.overwrite
    replaces: Literal["table", "partitions"] = (
        "partitions" if output.mode == "replace_partitions" else "table"
    )
    if output.format == "iceberg":
        table = IcebergTarget(output.path, dict(output.catalog))
        return iceberg_publisher(
            table, owner=owner, keep=keep, overwrite=overwrite, replaces=replaces
        )
    place = _storage(output.path, output.storage)
    if output.format == "parquet":
        return ObjectPublisher(place, owner=owner, keep=keep, overwrite=overwrite)
    return DeltaPublisher(place, owner=owner, keep=keep, overwrite=overwrite, replaces=replaces)


def publisher_at(url: str) -> Publisher:
    """What publishes Parquet files to `url` in an object store, for who only reads there.

    Raises:
        UsageError: as `publisher_of`.
    """
    return ObjectPublisher(_storage(url, {}))


def _storage(path: str, settings: Mapping[str, str]) -> Storage:
    if not is_objects(path):
        return Storage(str(local_path(path, what="output path")))
    url = path.rstrip("/")
    scheme, _, rest = url.partition("://")
    if not _SCHEME.fullmatch(url):
        raise UsageError(
            f"output path {url} names no folder of a bucket; write {scheme}://BUCKET/FOLDER, nothing was written"
        )
    # Hadoop's name for S3; the client knows the other.
    return Storage(f"s3://{rest}" if scheme == "s3a" else url, dict(settings))


def _refuse(output: OutputConfig) -> None:
    kinds = {"parquet": f"in an object store ({output.path})", "delta": "a Delta table"}
    what = kinds.get(output.format, "an Iceberg table")
    replaces = ("replace",) if output.format == "parquet" else ("replace", "replace_partitions")
    if output.mode not in replaces:
        raise UsageError(
            f"output.mode is {output.mode}, and the output is {what}, where it may be {' or '.join(replaces)}; nothing was "
            "written, set one of these, or publish Parquet files to a local path"
        )
    if "writer" in output.model_fields_set and output.writer == "spark":
        raise UsageError(
            f"output.writer is spark, and the output is {what}, which the workers write; nothing was written, leave "
            "output.writer out, or set it to arrow"
        )
