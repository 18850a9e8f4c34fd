"""What publishes the output of a conf. Light: Arrow and the clients of formats are imported when one is opened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from kvspark.config.job import JobConfig
from kvspark.errors import UsageError
from kvspark.spark.publishing.output_place import publishes_folders
from kvspark.spark.tables.paths import local_path
from kvspark.table.objects.storage import HDFS, Storage, is_remote

if TYPE_CHECKING:
    from kvspark.table.publish.publisher import Publisher, Replaces


_REPLACES: Mapping[str, Replaces] = {
    "replace": "table",
    "replace_partitions": "partitions",
    "append": "run",
    "merge": "rows",
}


def publisher_of(config: JobConfig) -> Publisher | None:
    """What publishes the output of `config`; None for Parquet files in a folder on a POSIX file system.

    Raises:
        UsageError: the URL or a setting names nothing that can be opened.
    """
    output = config.output
    if publishes_folders(output):
        return None
    owner, keep, overwrite = config.run.name, output.keep, output.overwrite
    replaces = _REPLACES[output.mode]
    if output.format == "iceberg":
        return _iceberg(config, replaces)
    place = _storage(output.path, output.storage)
    if output.format == "parquet":
        from kvspark.table.publish.object_publisher import ObjectPublisher

        return ObjectPublisher(
            place, owner=owner, keep=keep, overwrite=overwrite, replaces=replaces
        )
    if place.is_hdfs:
        raise UsageError(
            f"output.format is delta, and output path {output.path} is in HDFS, where the client of Delta tables does not write; "
            "nothing was written, set output.format: parquet, or name a path of an object store or of a disk"
        )
    from kvspark.table.delta.delta_publisher import DeltaPublisher

    return DeltaPublisher(
        place,
        owner=owner,
        keep=keep,
        overwrite=overwrite,
        replaces=replaces,
        merge_by=output.merge_by,
    )


def _iceberg(config: JobConfig, replaces: Replaces) -> Publisher:
    from kvspark.table.iceberg.opening import iceberg_publisher
    from kvspark.table.iceberg.target import IcebergTarget

    output = config.output
    return iceberg_publisher(
        IcebergTarget(output.path, dict(output.catalog)),
        owner=config.run.name,
        keep=output.keep,
        overwrite=output.overwrite,
        replaces=replaces,
        merge_by=output.merge_by,
    )


def publisher_at(url: str) -> Publisher:
    """What publishes Parquet files to `url` in an object store or in HDFS, for who only reads there.

    Raises:
        UsageError: as `publisher_of`.
    """
    from kvspark.table.publish.object_publisher import ObjectPublisher

    return ObjectPublisher(_storage(url, {}))


def _storage(path: str, settings: Mapping[str, str]) -> Storage:
    if not is_remote(path):
        return Storage(str(local_path(path, what="output path")))
    scheme, _, rest = path.rstrip("/").partition("://")
    # Hadoop's name for S3; the client knows the other.
    scheme = {"s3a": "s3"}.get(scheme.lower(), scheme.lower())
    host, _, folder = rest.partition("/")
    if not host or not folder:
        of, form = ("HDFS", "NAMENODE:PORT") if scheme == HDFS else ("a bucket", "BUCKET")
        raise UsageError(
            f"output path {path} names no folder of {of}; write {scheme}://{form}/FOLDER, nothing was written"
        )
    return Storage(f"{scheme}://{rest}", dict(settings))
