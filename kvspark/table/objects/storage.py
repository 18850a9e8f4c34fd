"""Where objects are, and how their store is reached; a value that travels to workers and holds no secret."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import final

SCHEMES = ("s3", "s3a", "gs", "az", "abfs", "abfss")
"""Of URLs that name objects."""


@final
@dataclass(frozen=True, slots=True)
class Storage:
    """Objects whose names begin with what `url` says."""

    url: str
    """`s3://bucket/prefix`, without a slash at its end."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Settings that are no secret: `endpoint`, `region`. Credentials come from the environment, a profile
    or the machine's own identity, on each machine."""

    def below(self, name: str) -> Storage:
        """The objects of folder `name`."""
        return replace(self, url=f"{self.url}/{name}")
