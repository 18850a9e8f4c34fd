"""Iceberg tables as their own client opens them, which knows nothing of kvspark."""

from __future__ import annotations

import os
from typing import cast

import pyarrow.fs as pafs
from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError
from pyiceberg.table import Table
from pyiceberg.utils.config import Config

from kvspark.table.iceberg.target import IcebergTarget
from tests.object_server import LAKE, s3_store


def iceberg_at(url: str) -> IcebergTarget:
    """The table of a catalog that is a file, `<file> <warehouse>`, or of a server's, `<catalog> <namespace>`."""
    file, warehouse = url.split(" ")
    if file == LAKE:
        return IcebergTarget(f"iceberg:{LAKE}/{warehouse}.scored")
    properties = {"type": "sql", "uri": f"sqlite:///{file}", "warehouse": warehouse}
    return IcebergTarget("iceberg:tests/nights.scored", properties)


def iceberg_table(url: str) -> Table:
    """What pyiceberg opens by itself."""
    target = iceberg_at(url)
    names = {"s3.endpoint": "AWS_ENDPOINT_URL", "s3.region": "AWS_REGION"}
    store = {name: os.environ.get(variable) for name, variable in names.items()}
    # Read again: pyiceberg reads the environment when it is imported.
    known = cast("dict[str, str]", Config().get_catalog_config(target.catalog) or {})
    catalog = load_catalog(target.catalog, **{**known, **target.properties, **store})
    return catalog.load_table(target.identifier)


def iceberg_rows(url: str) -> list[tuple[str, str]]:
    """What a reader finds; none before the first run."""
    try:
        table = iceberg_table(url).scan().to_arrow()
    except (NoSuchTableError, NoSuchNamespaceError):
        return []
    if not table.num_rows:
        return []
    return sorted(zip(*(table[name].to_pylist() for name in ("content", "kind")), strict=True))


def iceberg_left_over(kind: str, url: str) -> list[str]:
    """The files of a table's folder, but for its older metadata and locks, that no snapshot of it has."""
    table = iceberg_table(url)
    wanted, attempts = set(), set()
    for snapshot in table.metadata.snapshots:
        wanted.add(snapshot.manifest_list)
        assert snapshot.summary is not None
        attempts.add(snapshot.summary["kvspark.attempt"])
        for manifest in snapshot.manifests(table.io):
            wanted.add(manifest.manifest_path)
            entries = manifest.fetch_manifest_entry(table.io)
            wanted |= {entry.data_file.file_path for entry in entries}
    store = s3_store() if kind != "iceberg" else pafs.LocalFileSystem()
    folder = table.location().removeprefix("s3://")
    found = store.get_file_info(pafs.FileSelector(folder, recursive=True))
    files = {each.path: each.path.removeprefix(f"{folder}/") for each in found if each.is_file}
    names = [name for path, name in files.items() if not {path, f"s3://{path}"} & wanted]
    notes = {f"_kvspark/runs/{attempt}" for attempt in attempts}
    ours = [name for name in names if name.rpartition("/")[0] not in notes]
    return [
        n for n in ours if (not n.endswith(".metadata.json") and n.count("/") > 1) or ".avro" in n
    ]
