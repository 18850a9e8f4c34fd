"""Whether a run reads what it would replace, under whatever name: two hosts, two endpoints or an alias of a bucket."""

from __future__ import annotations

from kvspark.config.job import JobConfig
from kvspark.errors import DataError, OutputError, UsageError
from kvspark.table.iceberg.opening import iceberg_table_id
from kvspark.table.iceberg.target import IcebergTarget
from kvspark.table.objects.storage import Storage, bucket_of, is_remote
from kvspark.table.place.opening import open_objects
from kvspark.table.publish.object_lock import holder_of

_AZURE = ("az", "abfs", "abfss")


def refuse_own_input(config: JobConfig) -> None:
    """Does nothing if no input of `config` has the lock of its output, which this run holds.

    Names say little: one NameNode has many, and so has a bucket. The lock has a mark that no other lock has, so who
    reads it through the name of the input is at the output.

    Raises:
        UsageError: an input is, or holds, or lies in the output.
        DataError: the input does not answer.
    """
    if config.output.format == "iceberg":
        _refuse_own_table(config)
    elif is_remote(config.output.path):
        _refuse_own_folder(config)


def _refuse_own_table(config: JobConfig) -> None:
    """As `refuse_own_input`, of a table that two catalogs, or two names of one, may know: it has one id for all."""
    if config.input.format != "iceberg":
        return
    own = iceberg_table_id(IcebergTarget(config.output.path, dict(config.output.catalog)))
    for path in config.input.paths:
        try:
            read = iceberg_table_id(IcebergTarget(path, dict(config.input.catalog)))
        except OutputError as exc:
            raise DataError(f"input {exc}") from None
        if own == read is not None:
            raise _one_place(config.output.path, path)


def _refuse_own_folder(config: JobConfig) -> None:
    output = config.output
    bucket, folder = bucket_of(output.path, output.storage)
    here = open_objects(Storage(f"{bucket.url}/{folder}", output.storage))
    for path in filter(is_remote, config.input.paths):
        other, key = bucket_of(path, config.input.storage)
        if _kind(other) != _kind(bucket) or not _overlap(key, folder):
            continue
        there = open_objects(Storage(f"{other.url}/{folder}", config.input.storage))
        try:
            holder = holder_of(there)
        except PermissionError:
            continue  # it is not there: by these rights the lock was taken
        except OSError as exc:
            raise DataError(f"input: {exc}; nothing was published") from None
        if holder is not None and holder == holder_of(here):
            raise _one_place(output.path, path)


def _one_place(output: str, path: str) -> UsageError:
    return UsageError(
        f"output path {output} and input path {path} are one place under two names, or lie in one another: "
        "publishing would replace the input; nothing was published, choose another output path"
    )


def _kind(storage: Storage) -> str:
    scheme = storage.url.partition("://")[0]
    return _AZURE[0] if scheme in _AZURE else scheme


def _overlap(one: str, other: str) -> bool:
    """True if a key is the other, or a folder above it; the empty one is above all."""
    inner, outer = sorted((one, other), key=len, reverse=True)
    return not outer or f"{inner}/".startswith(f"{outer}/")
