"""One table of one catalog, and the only way in which it is changed: one commit, under conditions."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast, final
from urllib.parse import urlsplit

from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import (
    CommitFailedException,
    NoSuchNamespaceError,
    NoSuchTableError,
    TableAlreadyExistsError,
)
from pyiceberg.schema import Schema
from pyiceberg.table import CommitTableResponse, Table, TableProperties
from pyiceberg.table.update import TableRequirement, TableUpdate
from pyiceberg.utils.config import Config

from kvspark.errors import KvsparkError, OutputError
from kvspark.table.iceberg.target import IcebergTarget, is_secret
from kvspark.table.objects.object_store import ObjectStore
from kvspark.table.objects.storage import SCHEMES, Storage
from kvspark.table.publish.files.object_files import ObjectFiles
from kvspark.table.publish.files.posix_files import PosixFiles
from kvspark.table.publish.files.table_files import TableFiles

_MADE_WITH = {TableProperties.METADATA_DELETE_AFTER_COMMIT_ENABLED: "true"}

_FROM_ENVIRONMENT = {
    "s3.endpoint": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    "s3.region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
}
"""What workers read there, the driver's client takes from there too."""

_MOST_TEXT = 200

ROWS = "data/runs"
"""Where attempts have their rows. There are object stores that take nothing of a table but below `data`."""

TRIES = 5
"""Of a commit, where other writers change the table in between."""


@final
class StaleError(Exception):
    """Raised when the table is not what a commit expects any more; nothing was committed."""


@final
class CatalogTable:
    """The table of a target. All methods raise OutputError where the catalog or its storage refuses."""

    def __init__(self, target: IcebergTarget) -> None:
        self.url = target.url
        self._target = target
        with self.telling("nothing was written"):
            # pyiceberg reads the environment when it is imported, and it may have been set since.
            known: Mapping[str, Any] = Config().get_catalog_config(target.catalog) or {}
            self._catalog = load_catalog(target.catalog, **{**known, **target.properties})
            for name, variables in _FROM_ENVIRONMENT.items():
                found = next((os.environ[each] for each in variables if each in os.environ), None)
                if found is not None:
                    self._catalog.properties.setdefault(name, found)

    def load(self) -> Table | None:
        """The table as it is now; None if there is none."""
        with self.telling("nothing was changed"):
            try:
                return self._catalog.load_table(self._target.identifier)
            except (NoSuchTableError, NoSuchNamespaceError):
                return None

    def ensure(self, **properties: str) -> Table:
        """The table, made without columns where there is none."""
        table = self.load()
        if table is not None:
            return table
        with self.telling("nothing was written"):
            self._catalog.create_namespace_if_not_exists(self._target.identifier[:-1])
            try:
                return self._catalog.create_table(
                    self._target.identifier, Schema(), properties={**_MADE_WITH, **properties}
                )
            except TableAlreadyExistsError:
                return self._catalog.load_table(self._target.identifier)

    def staging(
        self,
        table: Table,
        requirements: Sequence[TableRequirement],
        updates: Sequence[TableUpdate],
    ) -> Table:
        """`table` for one transaction, which is committed once, and only if `requirements` hold; with `updates` last.

        What commits raises StaleError where they do not hold, or another writer was first.
        """
        once = _Once(self._catalog, tuple(requirements), tuple(updates))
        return Table(
            table.name(), table.metadata, table.metadata_location, table.io, cast("Catalog", once)
        )

    def commit(
        self,
        table: Table,
        requirements: Sequence[TableRequirement],
        updates: Sequence[TableUpdate],
    ) -> None:
        """Makes `updates`, in one step.

        Raises:
            StaleError: `requirements` do not hold, or another writer was first.
        """
        _Once(self._catalog, tuple(requirements), tuple(updates)).commit_table(table, (), ())

    def files(self, table: Table) -> TableFiles:
        """Where attempts write."""
        place = _place(table.location())
        if isinstance(place, Path):
            return PosixFiles(place, runs=ROWS)
        return ObjectFiles(Storage(place, self.options(place)), runs=ROWS)

    def metadata_url(self, table: Table) -> str:
        """Where the table's snapshots are described."""
        base = table.properties.get(TableProperties.WRITE_METADATA_PATH)
        return (base or f"{table.location().rstrip('/')}/metadata").rstrip("/")

    def metadata_names(self, table: Table) -> list[str]:
        """The names of the files that are there; raises OSError."""
        place = _place(self.metadata_url(table))
        if isinstance(place, Path):
            return [each.name for each in place.iterdir()] if place.exists() else []
        return [each.name for each in ObjectStore(Storage(place, self.options(place))).listed()]

    def options(self, place: str) -> dict[str, str]:
        """What the catalog says of the object store of the URL `place`."""
        known = self._catalog.properties
        names = ("endpoint", "region") if place.startswith("s3") else ()
        return {name: str(known[f"s3.{name}"]) for name in names if f"s3.{name}" in known}

    @contextmanager
    def telling(self, become: str) -> Iterator[None]:
        """Turns what the client raises inside into an OutputError of one line, which says what became of the table."""
        try:
            yield
        except (KvsparkError, StaleError):
            raise
        except CommitFailedException as exc:
            raise StaleError(str(exc)) from exc
        except Exception as exc:  # noqa: BLE001 - each catalog has a client of its own, which raises its own errors
            raise OutputError(f"{self.url}: {self._one_line(exc)}; {become}") from None

    def _one_line(self, exc: Exception) -> str:
        text = (str(exc).strip() or type(exc).__name__).splitlines()[0]
        known = getattr(self, "_catalog", None)
        for name, value in {} if known is None else known.properties.items():
            if value and is_secret(name, str(value)):
                text = text.replace(str(value), "...")
        return (
            f"the catalog or its storage does not do it ({type(exc).__name__}: {text[:_MOST_TEXT]})"
        )


@final
class _Once:
    """A catalog for one commit. pyiceberg would repeat it on a newer table, where it may be wrong."""

    def __init__(
        self,
        catalog: Catalog,
        requirements: tuple[TableRequirement, ...],
        updates: tuple[TableUpdate, ...],
    ) -> None:
        self._catalog = catalog
        self._requirements = requirements
        self._updates = updates

    def commit_table(
        self,
        table: Table,
        requirements: tuple[TableRequirement, ...],
        updates: tuple[TableUpdate, ...],
    ) -> CommitTableResponse:
        try:
            return self._catalog.commit_table(
                table, (*requirements, *self._requirements), (*updates, *self._updates)
            )
        except CommitFailedException as exc:
            raise StaleError(str(exc)) from exc

    def __getattr__(self, name: str) -> Any:
        return getattr(self._catalog, name)


def _place(url: str) -> Path | str:
    """The folder of a URL, or the URL of objects."""
    scheme = url.partition(":")[0] if ":/" in url else "file"
    if scheme == "file":
        return Path(urlsplit(url).path)
    if scheme not in SCHEMES:
        raise OutputError(
            f"{url} is on {scheme}:, where kvspark writes no Iceberg tables; nothing was written, name a warehouse on a "
            "file system or an object store"
        )
    return url.rstrip("/")
