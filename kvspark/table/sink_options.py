"""How a sink cuts and compresses what it writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, final

Compression: TypeAlias = Literal["zstd", "snappy", "gzip", "lz4", "uncompressed"]

_MIB = 1 << 20


@final
@dataclass(frozen=True, slots=True)
class SinkOptions:
    """What the files of a sink look like, and what it holds while it writes them."""

    compression: Compression = "zstd"
    file_bytes: int = 512 * _MIB
    """A file is closed before it is larger; one row group is the least that a file has."""
    group_rows: int = 1_000_000
    """The most rows of a row group."""
    group_bytes: int = 64 * _MIB
    """The bytes of Arrow rows that wait to be written, over all files together: a row group at most."""
    most_open: int = 64
    """Files that are open at once, of a table in folders; the one that got no rows for longest is closed first."""
