"""Reading what a run has published."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds

from kvspark.errors import OutputError
from kvspark.table.objects.object_filesystem import object_filesystem
from kvspark.table.objects.storage import Storage, is_remote
from kvspark.table.place.opening import open_objects
from kvspark.table.publish.object_table import RUNS, ObjectTable, path_of
from kvspark.table.publish.publisher import Published

_QUARANTINE = "_kvspark/quarantine"


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
    folder = Path(text.removeprefix("file://"))
    place = folder / _QUARANTINE if quarantine else folder
    if (folder / "_delta_log").is_dir():
        raise OutputError(
            f"{path} is a Delta table, whose log says which files are its; read it with deltalake.DeltaTable or with Spark"
        )
    if not place.is_dir():
        raise OutputError(f"{path} has no {'quarantine' if quarantine else 'output'}")
    return ds.dataset(place, format="parquet", partitioning=None if quarantine else "hive")


def published_folder(path: str | Path) -> str:
    """The folder of what a run has published to `path`: there Spark reads it, and whoever else reads folders.

    `spark.read.parquet(kvspark.published_folder("hdfs://bank/scores"))`. On a disk it is `path` itself. In an object store
    and in HDFS each run has a folder of its own, which is kept as long as `output.keep` says.

    Raises:
        OutputError: nothing is published there, or it cannot be read.
        UsageError: as `read`.
    """
    text = str(path)
    if is_remote(text):
        return _current(ObjectTable(open_objects(Storage(text.rstrip("/"))))).url
    if not Path(text.removeprefix("file://")).is_dir():
        raise OutputError(f"{path} has no output")
    return text


def _current(table: ObjectTable) -> Published:
    pointer = table.pointer()
    if pointer is None or pointer.current is None:
        raise OutputError(f"{table.url} has no output: no run has published there")
    return pointer.current


def _objects(storage: Storage, *, quarantine: bool) -> ds.Dataset:
    store = open_objects(storage)
    table = ObjectTable(store)
    try:
        current = _current(table)
        folder = f"{RUNS}/{current.attempt}"
        if quarantine:
            names = [n for n in table.sizes(current.attempt) if n.startswith(_QUARANTINE)]
        else:
            names = [path_of(each) for each in table.files(current)]
        if not names:
            raise OutputError(f"{storage.url} has no quarantine")
        return ds.dataset(
            [f"{folder}/{name}" for name in names],
            filesystem=object_filesystem(store),
            format="parquet",
            partitioning=None if quarantine else "hive",
            partition_base_dir=folder,
        )
    except (OSError, pa.ArrowInvalid) as exc:
        raise OutputError(f"{storage.url} cannot be read ({exc})") from exc
