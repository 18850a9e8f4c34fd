"""The publisher of an Iceberg table, and its id; the client is imported only here, when one is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from kvspark.errors import UsageError
from kvspark.table.iceberg.target import IcebergTarget
from kvspark.table.publish.publisher import Publisher, Replaces


def iceberg_publisher(
    target: IcebergTarget,
    *,
    owner: str | None = None,
    keep: int = 1,
    overwrite: bool = False,
    replaces: Replaces = "table",
    merge_by: Sequence[str] = (),
) -> Publisher:
    """The publisher of `target`.

    `owner` is the job's name; any job's table is ours without it. `keep` versions stay restorable. A run replaces
    what `replaces` says, rows by the columns `merge_by`.

    Raises:
        UsageError: the client is not installed.
        OutputError: the catalog cannot be opened.
    """
    with _client(target):
        from kvspark.table.iceberg.iceberg_publisher import IcebergPublisher
    return IcebergPublisher(
        target,
        owner=owner,
        keep=keep,
        overwrite=overwrite,
        replaces=replaces,
        merge_by=merge_by,
    )


def iceberg_table_id(target: IcebergTarget) -> str | None:
    """The id that a table keeps under every name and in every catalog; None if there is no such table.

    Raises:
        UsageError: the client is not installed.
        OutputError: the catalog cannot be opened.
    """
    with _client(target):
        from kvspark.table.iceberg.catalog_table import CatalogTable
    table = CatalogTable(target).load()
    return None if table is None else str(table.metadata.table_uuid)


@contextmanager
def _client(target: IcebergTarget) -> Iterator[None]:
    """Says which package is missing where the import in it fails of that."""
    try:
        yield
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] not in {"pyiceberg", "sqlalchemy"}:
            raise
        raise UsageError(
            f"{target.url} needs a client of Iceberg, which is not installed; pip install 'kvspark[iceberg]'"
        ) from None
