"""What publishes the output of a conf. Light: Arrow and the clients of formats are imported when one is opened."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from kvspark.config.job import JobConfig
from kvspark.errors import UsageError
from kvspark.spark.publishing.output_place import is_objects, publishes_folders
from kvspark.spark.tables.paths import local_path
from kvspark.table.objects.storage import Storage

if TYPE_CHECKING:
    from kvspark.table.publish.publisher import Publisher

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://[^/]+/.+")


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
        from kvspark.table.iceberg.opening import iceberg_publisher
        from kvspark.table.iceberg.target import IcebergTarget

        table = IcebergTarget(output.path, dict(output.catalog))
        return iceberg_publisher(
            table, owner=owner, keep=keep, overwrite=overwrite, replaces=replaces
        )
    place = _storage(output.path, output.storage)
    if output.format == "parquet":
        from kvspark.table.publish.object_publisher import ObjectPublisher

        return ObjectPublisher(place, owner=owner, keep=keep, overwrite=overwrite)
    from kvspark.table.delta.delta_publisher import DeltaPublisher

    return DeltaPublisher(place, owner=owner, keep=keep, overwrite=overwrite, replaces=replaces)


def publisher_at(url: str) -> Publisher:
    """What publishes Parquet files to `url` in an object store, for who only reads there.

    Raises:
        UsageError: as `publisher_of`.
    """
    from kvspark.table.publish.object_publisher import ObjectPublisher

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
