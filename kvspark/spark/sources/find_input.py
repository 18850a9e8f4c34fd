"""The input of a conf, found without a session: what kind of source it is, and what is there now."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from kvspark.config.table.input_table import InputConfig
from kvspark.spark.sources.by_spark.local_orc import LocalOrc
from kvspark.spark.sources.by_spark.local_parquet import LocalParquet
from kvspark.spark.sources.by_spark.local_text import LocalText
from kvspark.spark.sources.by_spark.sql_query import SqlQuery
from kvspark.spark.sources.by_workers.delta_table import find_delta
from kvspark.spark.sources.by_workers.iceberg_table import find_iceberg
from kvspark.spark.sources.by_workers.object_parquet import ObjectParquet
from kvspark.spark.sources.input.found_input import FoundInput
from kvspark.spark.tables.input_files import checked_files, find_files
from kvspark.spark.tables.listing import resolve_paths
from kvspark.spark.tables.nanoseconds import asked_as_long
from kvspark.spark.tables.object_listing import list_objects
from kvspark.spark.tables.plain_files import find_plain_files
from kvspark.table.input.growth import Growth
from kvspark.table.objects.storage import is_remote


def input_roots(config: InputConfig) -> list[Path]:
    """The files and folders of this machine that `config` names, which an output must not lie in.

    Raises:
        DataError: a path names nothing.
        UsageError: a path is none that can be read, or lies in another one: its rows would be read twice.
    """
    is_elsewhere = config.format == "iceberg" or any(map(is_remote, config.paths))
    if config.sql is not None or is_elsewhere:
        return []
    return resolve_paths(config.paths)


def find_input(
    config: InputConfig,
    *,
    settings: Mapping[str, str],
    columns: Sequence[str],
    defaulted: Collection[str] = (),
    growth: Growth | None = None,
) -> FoundInput:
    """What `config` names, as it is now. `columns` are those that the model takes.

    Of a table that `growth` is of, that part alone. Nulls in those of them that are `defaulted` have a value. `settings` are those that the session is to have.

    Raises:
        DataError: nothing is there, it is not readable, it is of another format, or a column that the model takes
            is null by a folder's name where a bad row is an error.
        SchemaError: a column is missing, or files do not agree on a column.
        UsageError: as `input_roots`.
    """
    if config.sql is not None:
        return SqlQuery(config, columns)
    if config.format == "iceberg":
        return find_iceberg(config, columns=columns, growth=growth)
    if config.format == "delta":
        return find_delta(config, columns=columns, growth=growth)
    if config.format != "parquet":
        kind = LocalOrc if config.format == "orc" else LocalText
        return kind(find_plain_files(config), config, columns)
    as_long = asked_as_long(settings)
    if not any(map(is_remote, config.paths)):
        files = find_files(config, columns=columns, defaulted=defaulted, nanos_as_long=as_long)
        return LocalParquet(files, config)
    found = list_objects(config.paths, config.storage)
    files = checked_files(
        config, found.files, columns=columns, defaulted=defaulted, nanos_as_long=as_long
    )
    return ObjectParquet(found, files)
