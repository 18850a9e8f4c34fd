"""Reading what a run has published."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds

from kvspark.errors import OutputError
from kvspark.table.objects.object_filesystem import object_filesystem
from kvspark.table.objects.storage import Storage, is_remote
from kvspark.table.place.opening import open_objects
from kvspark.table.publish.file_list import LIST_NAME, FileList
from kvspark.table.publish.object_table import QUARANTINE, RUNS, ObjectTable
from kvspark.table.publish.publisher import Published


def read(path: str | Path, *, quarantine: bool = False) -> ds.Dataset:
    """The rows that a run has published to `path`, a folder, one of an object store or of HDFS; or those that it set aside.

    A dataset of Arrow reads nothing until it is asked: `.to_table(columns=..., filter=...)`, `duckdb.sql("FROM rows")`,
    `polars.scan_pyarrow_dataset(rows)`. It stays that of one run: what is published later is not in it, and its files are
    kept as long as `output.keep` says.

    Raises:
        OutputError: nothing is published there, or it cannot be read.
        UsageError: the client of the object store or of HDFS is not installed.
    """
    text = str(path)
    if is_remote(text):
        return _objects(Storage(text.rstrip("/")), quarantine=quarantine)
    folder = _folder(path)
    place = folder / QUARANTINE if quarantine else folder
    if not place.is_dir():
        raise OutputError(f"{path} has no quarantine")
    return ds.dataset(place, format="parquet", partitioning=None if quarantine else "hive")


def published_folder(path: str | Path) -> str:
    """The folder of what a run has published to `path`: there Spark reads it, and whoever else reads folders.

    `spark.read.parquet(kvspark.published_folder("hdfs://bank/scores"))`. On a disk it is `path` itself. In an object store
    and in HDFS each run has a folder of its own, which is kept as long as `output.keep` says.

    Raises:
        OutputError: nothing is published there, or it cannot be read, or runs there add rows or replace partitions, so that
            no folder is the table, also after the first of them; `published_files` has its files.
        UsageError: as `read`.
    """
    text = str(path)
    if is_remote(text):
        current = _current(_table(text))
        if current.url.endswith(f"/{LIST_NAME}"):
            raise OutputError(
                f"{path} has rows of several runs, or may have after the next one, and each run's are in a folder of its own: no "
                "folder is the table; give Spark the files (kvspark.published_files), or read it with kvspark.read"
            )
        return current.url
    if not Path(text.removeprefix("file://")).is_dir():
        raise OutputError(f"{path} has no output")
    return text


def published_files(path: str | Path) -> list[str]:
    """All files with rows of what a run has published to `path`, by their paths or URLs.

    For readers that take files, whatever `output.mode` is: `spark.read.parquet(*kvspark.published_files("s3://bank/scores"))`.
    Where the table has partitions, Spark finds their columns with two options (Spark 4.0 and later): `basePath`, which is
    `s3://bank/scores/_runs`, or `path` itself on a disk, and `ignoreInvalidPartitionPaths`, which is true. The files are kept as
    long as `output.keep` says.

    Raises:
        OutputError: nothing is published there, or it cannot be read.
        UsageError: as `read`.
    """
    text = str(path)
    if is_remote(text):
        table = _table(text)
        try:
            paths = table.files(_current(table)).paths
        except OSError as exc:
            raise OutputError(f"{path} cannot be read ({exc})") from exc
        return [f"{table.url}/{RUNS}/{each}" for each in paths]
    folder = _folder(path)
    found = (each.relative_to(folder) for each in sorted(folder.rglob("*.parquet")))
    return [str(folder / each) for each in found if not any(map(_is_hidden, each.parts))]


def _is_hidden(name: str) -> bool:
    """True where Spark looks at no file of this name, or below it."""
    return name[0] == "." or (name[0] == "_" and "=" not in name)


def _folder(path: str | Path) -> Path:
    folder = Path(str(path).removeprefix("file://"))
    if (folder / "_delta_log").is_dir():
        raise OutputError(
            f"{path} is a Delta table, whose log says which files are its; read it with deltalake.DeltaTable or with Spark"
        )
    if not folder.is_dir():
        raise OutputError(f"{path} has no output")
    return folder


def _table(url: str) -> ObjectTable:
    return ObjectTable(open_objects(Storage(url.rstrip("/"))))


def _current(table: ObjectTable) -> Published:
    pointer = table.pointer()
    if pointer is None or pointer.current is None:
        raise OutputError(f"{table.url} has no output: no run has published there")
    return pointer.current


def _objects(storage: Storage, *, quarantine: bool) -> ds.Dataset:
    store = open_objects(storage)
    table = ObjectTable(store)
    try:
        listed = table.files(_current(table))
        names = listed.beside if quarantine else listed.paths
        if not names:
            raise OutputError(f"{storage.url} has no {'quarantine' if quarantine else 'rows'}")
        return ds.dataset(
            [f"{RUNS}/{name}" for name in names],
            filesystem=object_filesystem(store),
            format="parquet",
            partitioning=None if quarantine else _partitioning(listed),
            partition_base_dir=RUNS,
        )
    except (OSError, pa.ArrowInvalid) as exc:
        raise OutputError(f"{storage.url} cannot be read ({exc})") from exc


def _partitioning(listed: FileList) -> ds.Partitioning | str:
    """With the types that the columns have, which the names of folders do not say."""
    if listed.columns is None:
        return "hive"
    return ds.partitioning(listed.columns.folders(), flavor="hive")
