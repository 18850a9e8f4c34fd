"""One file of a table, with what the table says of its rows beside the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

from kvspark.table.input.pinned_file import PinnedFile


@final
@dataclass(frozen=True, slots=True)
class TableFile:
    """A file whose rows are in the table."""

    pinned: PinnedFile
    values: Mapping[str, str | None] = field(default_factory=dict)
    """The columns that all its rows have in common, as the names of folders say them."""
