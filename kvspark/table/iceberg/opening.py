"""The publisher of an Iceberg table; its client is imported only here, when one is asked for."""

from __future__ import annotations

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
) -> Publisher:
    """The publisher of `target`.

    `owner` is the job's name; any job's table is ours without it. `keep` versions stay restorable. A run replaces
    the whole table, or the partitions of which it has rows.

    Raises:
        UsageError: the client is not installed.
        OutputError: the catalog cannot be opened.
    """
    try:
        from kvspark.table.iceberg.iceberg_publisher import IcebergPublisher
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] not in {"pyiceberg", "sqlalchemy"}:
            raise
        raise UsageError(
            f"{target.url} needs a client of Iceberg, which is not installed; pip install 'kvspark[iceberg]'"
        ) from None
    return IcebergPublisher(target, owner=owner, keep=keep, overwrite=overwrite, replaces=replaces)
