"""What kind of place an output goes to, told from its conf alone."""

from __future__ import annotations

from kvspark.config.job import OutputConfig
from kvspark.table.objects.storage import SCHEMES


def is_objects(path: str) -> bool:
    """True if `path` is in an object store."""
    return path.partition("://")[0].lower() in SCHEMES and "://" in path


def publishes_folders(output: OutputConfig) -> bool:
    """True for Parquet files in a folder on a POSIX file system, which is published by an exchange."""
    return output.format == "parquet" and not is_objects(output.path)
