"""The one snapshot that makes what a run wrote the table, or the partitions of it that the run touched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

from pyiceberg.expressions import AlwaysTrue
from pyiceberg.manifest import DataFile, ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import SetPropertiesUpdate

from kvspark.errors import OutputError
from kvspark.fault import fault_point
from kvspark.table.iceberg.catalog_table import ROWS, CatalogTable
from kvspark.table.iceberg.columns import evolve
from kvspark.table.iceberg.data_files import data_file, required_nulls
from kvspark.table.iceberg.fence import Fence
from kvspark.table.iceberg.leftovers import files_of, new_commit_uuid
from kvspark.table.iceberg.state import ATTEMPT, OWNER, RUN, State
from kvspark.table.publish.publisher import Attempt, Content, Replaces


@final
@dataclass(frozen=True, slots=True)
class RunSnapshot:
    """How attempts become snapshots of one table."""

    catalog: CatalogTable
    owner: str | None
    keep: int
    overwrite: bool
    replaces: Replaces

    def commit(self, table: Table, attempt: Attempt, content: Content) -> None:
        """Makes `content` what readers find.

        Raises:
            StaleError: the table was changed since it was loaded; nothing was committed.
            OutputError: the table cannot have the rows, or the catalog refuses.
        """
        url, state = self.catalog.url, State(table)
        versions = [each.snapshot_id for each in (state.main, *state.kept) if each is not None]
        updates = state.keeping(versions[: self.keep])
        owner = self.owner if self.owner is not None else state.owner or ""
        updates.append(SetPropertiesUpdate(updates={OWNER: owner}))
        condition = Fence.from_text(attempt.fence).condition
        with self.catalog.telling("nothing was published, as far as is known"):
            change = self.catalog.staging(table, [condition], updates).transaction()
            evolve(
                change,
                content.schema,
                content.partition_by,
                table=url,
                may_add=state.is_ours or self.overwrite,
            )
            files = _data_files(url, change.table_metadata, attempt, content)
            mine = change.update_snapshot(
                snapshot_properties={ATTEMPT: attempt.name, RUN: attempt.run_id}
            ).overwrite()
            mine.commit_uuid = new_commit_uuid()
            _without_dead_manifests(mine)
            if self.replaces == "table":
                mine.delete_by_predicate(AlwaysTrue())
            for old in self._replaced(table, files):
                mine.delete_data_file(old)
            for file in files:
                mine.append_data_file(file)
            mine.commit()
            fault_point("planned")
            change.commit_transaction()

    def _replaced(self, table: Table, files: Sequence[DataFile]) -> Iterator[DataFile]:
        """The files that are in the table and will not be any more."""
        snapshot = table.metadata.current_snapshot()
        there = () if snapshot is None else files_of(snapshot, table.io)
        if self.replaces == "table":
            yield from there
            return
        touched = {_key(file) for file in files}
        for old in there:
            if old.spec_id != table.metadata.default_spec_id:
                raise OutputError(
                    f"{self.catalog.url} has files of other partitions than it has now; nothing was published, rewrite "
                    "them, or let the run replace the whole table"
                )
            if _key(old) in touched:
                yield old


def _key(file: DataFile) -> tuple[object, ...]:
    return tuple(file.partition[place] for place in range(len(file.partition)))


def _data_files(
    url: str, metadata: TableMetadata, attempt: Attempt, content: Content
) -> list[DataFile]:
    schema, spec = metadata.schema(), metadata.spec()
    folder = f"{metadata.location.rstrip('/')}/{ROWS}/{attempt.name}"
    files = [each for each in content.files if each.rows]
    for each in files:
        column = required_nulls(each, schema)
        if column is not None:
            raise OutputError(
                f"{url} can have no null in column {column!r}, and the run has one; nothing was published"
            )
    return [data_file(f"{folder}/{each.name}", each, schema, spec) for each in files]


def _without_dead_manifests(producer: Any) -> None:
    """Manifests of which all files are deleted, pyiceberg carries on for ever, one more each night; others do not."""
    found = producer._existing_manifests  # noqa: SLF001 - there is no other way to leave them out

    def living() -> list[ManifestFile]:
        return [each for each in found() if each.has_added_files() or each.has_existing_files()]

    producer._existing_manifests = living  # noqa: SLF001
