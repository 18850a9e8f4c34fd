"""Which table of which catalog a run writes; a value without secrets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

from kvspark.errors import UsageError

SCHEME = "iceberg:"
_SECRET = re.compile(
    r"secret|token|password|credential|account-key|connection-string", re.IGNORECASE
)
_USER = re.compile(r"//[^/@:]*:[^/@]+@")


def is_secret(name: str, value: str) -> bool:
    """True for a property of a catalog that nobody may read: a key, or an address with a password."""
    return bool(_SECRET.search(name) or _USER.search(value))


@final
@dataclass(frozen=True, slots=True)
class IcebergTarget:
    """A table as `iceberg:CATALOG/NAMESPACE.TABLE`.

    Raises:
        UsageError: the URL is no such name, or a property is a secret.
    """

    url: str
    properties: Mapping[str, str] = field(default_factory=dict)
    """Of the catalog, as pyiceberg has them (`type`, `uri`, `warehouse`, `s3.endpoint`); they add to what
    `~/.pyiceberg.yaml` and the variables `PYICEBERG_CATALOG__...` say of it, where secrets belong."""

    def __post_init__(self) -> None:
        catalog, slash, table = self.url.removeprefix(SCHEME).partition("/")
        parts = table.split(".")
        if not (self.url.startswith(SCHEME) and catalog and slash) or len(parts) < 2 or "" in parts:
            raise UsageError(
                f"{self.url} names no Iceberg table; write {SCHEME}CATALOG/NAMESPACE.TABLE"
            )
        for name, value in self.properties.items():
            if is_secret(name, value):
                raise UsageError(
                    f"catalog property {name!r} of {self.url} holds a secret, which no conf may; set it in the "
                    "environment or in ~/.pyiceberg.yaml"
                )

    @property
    def catalog(self) -> str:
        """The name of the catalog."""
        return self.url.removeprefix(SCHEME).partition("/")[0]

    @property
    def identifier(self) -> tuple[str, ...]:
        """The namespace's parts and the table's name."""
        return tuple(self.url.partition("/")[2].split("."))
