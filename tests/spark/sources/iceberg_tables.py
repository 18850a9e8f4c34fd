"""A catalog of Iceberg tables on a disk, and what other engines write to them and pyiceberg does not: deleted rows."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    ManifestWriterV2,
    write_manifest_list,
)
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation, Snapshot, Summary
from pyiceberg.table.update import AddSnapshotUpdate, SetSnapshotRefUpdate
from pyiceberg.typedef import Record


class _Deletes(ManifestWriterV2):
    """A manifest of files that say what is deleted."""

    def content(self) -> ManifestContent:
        return ManifestContent.DELETES


class Lake:
    """A new catalog in a folder."""

    def __init__(self, folder: Path) -> None:
        self.properties = {
            "type": "sql",
            "uri": f"sqlite:///{folder}/catalog.db",
            "warehouse": str(folder / "warehouse"),
        }
        self.catalog: Catalog = load_catalog("lake", **self.properties)
        self.catalog.create_namespace("ns")

    @property
    def conf(self) -> dict[str, Any]:
        """Of an input that is table `ns.t`."""
        return {
            "format": "iceberg",
            "paths": ["iceberg:lake/ns.t"],
            "catalog": self.properties,
        }

    def table(self, rows: pa.Table, **more: Any) -> Table:
        """Table `ns.t` with `rows`."""
        table = self.catalog.create_table("ns.t", rows.schema, **more)
        table.append(rows)
        return table


def delete_rows(
    table: Table,
    places: Sequence[int],
    *,
    content: DataFileContent = DataFileContent.POSITION_DELETES,
) -> None:
    """A snapshot in which `places` of the first file of `table` are deleted."""
    (first, *_) = sorted(task.file.file_path for task in table.scan().plan_files())
    rows = pa.table({"file_path": [first] * len(places), "pos": pa.array(places, pa.int64())})
    path = f"{table.location().removeprefix('file://')}/data/deletes-{uuid.uuid4()}.parquet"
    pq.write_table(rows, path)
    table.refresh()
    before = table.current_snapshot()
    assert before is not None
    number = before.snapshot_id + 1
    manifest = _manifest(table, path, len(places), content, number)
    list_path = f"{table.location()}/metadata/snap-{number}.avro"
    assert before.sequence_number is not None
    sequence = before.sequence_number + 1
    with write_manifest_list(
        2, table.io.new_output(list_path), number, before.snapshot_id, sequence, "null"
    ) as writer:
        writer.add_manifests([*before.manifests(table.io), manifest])
    snapshot = Snapshot(
        snapshot_id=number,
        parent_snapshot_id=before.snapshot_id,
        sequence_number=sequence,
        manifest_list=list_path,
        summary=Summary(Operation.DELETE),
        schema_id=table.schema().schema_id,
    )
    ref = SetSnapshotRefUpdate.model_validate(
        {"ref-name": "main", "type": "branch", "snapshot-id": number}
    )
    table.catalog.commit_table(table, (), (AddSnapshotUpdate(snapshot=snapshot), ref))
    table.refresh()


def _manifest(
    table: Table, path: str, rows: int, content: DataFileContent, snapshot: int
) -> ManifestFile:
    file = DataFile.from_args(
        content=content,
        file_path=path,
        file_format=FileFormat.PARQUET,
        partition=Record(),
        record_count=rows,
        file_size_in_bytes=Path(path).stat().st_size,
        equality_ids=[1] if content == DataFileContent.EQUALITY_DELETES else None,
    )
    file.spec_id = table.spec().spec_id
    place = table.io.new_output(f"{table.location()}/metadata/{uuid.uuid4()}-m0.avro")
    with _Deletes(table.spec(), table.schema(), place, snapshot, "null") as writer:
        entry = ManifestEntry.from_args(
            status=ManifestEntryStatus.ADDED, snapshot_id=snapshot, data_file=file
        )
        writer.add_entry(entry)
    return writer.to_manifest_file()
