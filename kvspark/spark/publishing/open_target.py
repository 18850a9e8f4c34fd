"""The target of a job, as its conf has it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from kvspark.config.job import JobConfig, OutputConfig
from kvspark.errors import UsageError
from kvspark.spark.output.job_target import target_of
from kvspark.spark.publishing.folder_target import FolderTarget
from kvspark.spark.publishing.publisher_target import PublisherTarget
from kvspark.spark.publishing.run_target import RunTarget
from kvspark.table.objects.storage import SCHEMES, Storage
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
    publisher.check()
    return PublisherTarget(publisher, config)


def publisher_of(config: JobConfig) -> Publisher | None:
    """What publishes the output of `config`; None for a folder on a POSIX file system.

    Raises:
        UsageError: the URL or a setting names nothing that can be opened.
    """
    output = config.output
    if not is_objects(output.path):
        return None
    return ObjectPublisher(
        _storage(output.path, output.storage),
        owner=config.run.name,
        keep=output.keep,
        overwrite=output.overwrite,
    )


def publisher_at(url: str) -> Publisher:
    """What publishes to `url` in an object store, for who only reads there.

    Raises:
        UsageError: as `publisher_of`.
    """
    return ObjectPublisher(_storage(url, {}))


def _storage(path: str, settings: Mapping[str, str]) -> Storage:
    url = path.rstrip("/")
    scheme, _, rest = url.partition("://")
    if not _SCHEME.fullmatch(url):
        raise UsageError(
            f"output path {url} names no folder of a bucket; write {scheme}://BUCKET/FOLDER, nothing was written"
        )
    # Hadoop's name for S3; the client knows the other.
    return Storage(f"s3://{rest}" if scheme == "s3a" else url, dict(settings))


def is_objects(path: str) -> bool:
    """True if `path` is in an object store."""
    return path.partition("://")[0].lower() in SCHEMES and "://" in path


def _refuse(output: OutputConfig) -> None:
    if output.mode == "append":
        raise UsageError(
            f"output.mode is append, and {output.path} is in an object store, where a run replaces the whole output; "
            "nothing was written, append to a local path, or set output.mode: replace"
        )
    if "writer" in output.model_fields_set and output.writer == "spark":
        raise UsageError(
            f"output.writer is spark, and {output.path} is written by the workers; nothing was written, leave "
            "output.writer out, or set it to arrow"
        )
