"""What kind of place an output goes to, told from its conf alone."""

from __future__ import annotations

from kvspark.config.table.output_table import OutputConfig
from kvspark.table.objects.storage import is_remote


def publishes_folders(output: OutputConfig) -> bool:
    """True for Parquet files in a folder on a POSIX file system, which is published by an exchange."""
    return output.format == "parquet" and not is_remote(output.path)
