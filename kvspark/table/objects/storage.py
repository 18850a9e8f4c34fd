"""Where objects are, and how their store is reached; a value that travels to workers and holds no secret."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import final

SCHEMES = ("s3", "s3a", "gs", "az", "abfs", "abfss")
"""Of URLs that name objects of an object store."""
HDFS = "hdfs"

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/]+)/*(.*)", re.DOTALL)


@final
@dataclass(frozen=True, slots=True)
class Storage:
    """Objects whose names begin with what `url` says."""

    url: str
    """`s3://bucket/prefix` or `hdfs://nameservice/folder`, without a slash at its end."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Settings that are no secret: `endpoint`, `region`, or Hadoop's for its clients. Credentials come from the
    environment, a profile, a ticket or the machine's own identity, on each machine."""

    @property
    def is_hdfs(self) -> bool:
        """True if the objects are files of HDFS."""
        return self.url.startswith(f"{HDFS}://")

    def below(self, name: str) -> Storage:
        """The objects of folder `name`."""
        return replace(self, url=f"{self.url}/{name}")


def is_object(url: str) -> bool:
    """True if `url` names an object, or what objects' names begin with."""
    scheme, colon, _ = url.partition("://")
    return bool(colon) and scheme.lower() in SCHEMES


def bucket_of(url: str, options: Mapping[str, str]) -> tuple[Storage, str]:
    """The bucket, or container, of `url`, and the name in it.

    Raises:
        ValueError: there is no bucket in it.
    """
    found = _URL.fullmatch(url)
    if found is None:
        raise ValueError(url)
    scheme, bucket, name = found.groups()
    # Hadoop's name for S3; the client knows the other.
    scheme = "s3" if scheme.lower() == "s3a" else scheme.lower()
    return Storage(f"{scheme}://{bucket}", dict(options)), name.rstrip("/")


def is_remote(path: str) -> bool:
    """True if `path` names objects, of an object store or of HDFS."""
    scheme, colon, _ = path.partition("://")
    return bool(colon) and scheme.lower() in (*SCHEMES, HDFS)
