"""Iceberg tables in a new catalog, and runs that write to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import CommitTableResponse, Table
from pyiceberg.table.update import TableRequirement, TableUpdate
from pyiceberg.types import LongType, NestedField, StringType

from kvspark.errors import OutputError
from kvspark.table.file_written import FileWritten
from kvspark.table.iceberg.iceberg_publisher import IcebergPublisher
from kvspark.table.iceberg.target import IcebergTarget
from kvspark.table.publish.publisher import Attempt, Content, Replaces
from kvspark.table.sink import Sink
from tests.table.publish.iceberg_tables import iceberg_at
from tests.table.publish.targets import (
    new_url,
)

PLAIN = pa.schema([("id", pa.int64()), ("name", pa.string())])
TOKEN = "word-of-the-catalog"
FOREIGN = Schema(
    NestedField(7, "id", LongType(), required=False),
    NestedField(9, "name", StringType(), required=True),
)


class HookedCatalog(SqlCatalog):
    """A catalog with which a test may meddle."""

    commits: ClassVar[list[Callable[[Callable[[], CommitTableResponse]], CommitTableResponse]]] = []
    """What is done instead of the next commits; each gets the commit itself."""

    def __init__(self, name: str, **properties: str) -> None:
        super().__init__(name, **properties, token=TOKEN)

    def commit_table(
        self,
        table: Table,
        requirements: tuple[TableRequirement, ...],
        updates: tuple[TableUpdate, ...],
    ) -> CommitTableResponse:
        def send() -> CommitTableResponse:
            return SqlCatalog.commit_table(self, table, requirements, updates)

        return self.commits.pop(0)(send) if self.commits else send()


class Place:
    """A new catalog and its table."""

    def __init__(self, folder: Path) -> None:
        self.url = new_url("iceberg", "", folder)
        plain = iceberg_at(self.url)
        impl = f"{__name__}.{HookedCatalog.__name__}"
        properties = {"py-catalog-impl": impl, **plain.properties}
        properties.pop("type")
        self.target = IcebergTarget(plain.url, properties)

    @property
    def catalog(self) -> Catalog:
        return load_catalog(self.target.catalog, **self.target.properties)

    @property
    def table(self) -> Table:
        return self.catalog.load_table(self.target.identifier)

    def publisher(
        self,
        *,
        keep: int = 1,
        overwrite: bool = False,
        replaces: Replaces = "table",
    ) -> IcebergPublisher:
        return IcebergPublisher(
            self.target, owner="small", keep=keep, overwrite=overwrite, replaces=replaces
        )

    def create(self, schema: Schema, spec: PartitionSpec | None = None) -> Table:
        catalog = self.catalog
        catalog.create_namespace_if_not_exists(self.target.identifier[:-1])
        if spec is None:
            return catalog.create_table(self.target.identifier, schema)
        return catalog.create_table(self.target.identifier, schema, partition_spec=spec)

    def read(self) -> list[dict[str, Any]]:
        table = self.table.scan().to_arrow()
        return sorted(table.to_pylist(), key=repr)


def publish(
    publisher: IcebergPublisher,
    run_id: str,
    table: pa.Table,
    partition_by: Sequence[str] = (),
) -> None:
    """One run that writes `table`."""
    with publisher.lock(run_id):
        publisher.check()
        attempt = publisher.prepare(run_id)
        try:
            files = files_of(attempt, table, partition_by)
            publisher.commit(attempt, Content(files, table.schema, tuple(partition_by)))
        except OutputError:
            publisher.abort(attempt)
            raise


def files_of(
    attempt: Attempt, table: pa.Table, partition_by: Sequence[str] = ()
) -> tuple[FileWritten, ...]:
    """The files that a task writes of `table`."""
    schema = attempt.file_schema(table.schema, partition_by)
    sink = Sink(
        attempt.place, f"part-{attempt.name[-8:]}", schema, partition_by=tuple(partition_by)
    )
    return tuple(sink.write(table.to_batches()))


def plain(*names: str) -> pa.Table:
    return pa.table([[*range(len(names))], [*names]], schema=PLAIN)


def named(place: Place) -> list[str]:
    return sorted(row["name"] for row in place.read())
