"""One version of a Delta table, by delta-rs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, final

from kvspark.errors import OutputError, UsageError
from kvspark.table.delta.columns import TableColumns
from kvspark.table.publish.pointer import Pointer

if TYPE_CHECKING:
    from deltalake import DeltaTable

KEY = "kvspark"
"""Of a commit's information that is ours; and the application whose last transaction says which commit that is."""


@final
class LogChangedError(OSError):
    """Raised when a commit did not become the next version; or it did, and the answer was lost."""


@final
@dataclass(frozen=True, slots=True)
class Snapshot:
    """The table as one version of the log has it."""

    version: int
    pointer: Pointer | None
    """What the last commit of kvspark said; None if none of those in the log is ours."""
    table: DeltaTable
    url: str

    def columns(self) -> TableColumns:
        """The columns and what is asked of writers."""
        with telling(self.url):
            metadata = self.table.metadata()
            return TableColumns(
                json.loads(self.table.schema().to_json())["fields"],
                tuple(metadata.partition_columns),
                metadata.configuration,
                frozenset(self.table.protocol().writer_features or ()),
            )

    def has_files(self) -> bool:
        """True if there is a file in the table."""
        with telling(self.url):
            return bool(self.table.get_add_actions().num_rows)

    def knows(self, application: str) -> bool:
        """True if a commit was one of `application`, however old."""
        with telling(self.url):
            return self.table.transaction_version(application) is not None

    def rows(self) -> int:
        """How many there are."""
        with telling(self.url):
            return self.table.count()

    def written_at(self) -> str:
        """When the version was made; UTC, ISO 8601."""
        with telling(self.url):
            (last,) = self.table.history(1)
            when = datetime.fromtimestamp(last["timestamp"] / 1000, timezone.utc)
            return when.isoformat(timespec="seconds")


@contextmanager
def telling(url: str) -> Iterator[None]:
    """Turns what the client raises inside into an OSError of one line."""
    try:
        from deltalake.exceptions import DeltaError
    except ImportError:
        raise UsageError(
            f"{url}: tables of Delta Lake need a client, which is not installed; pip install 'kvspark[delta]'"
        ) from None
    try:
        yield
    except (LogChangedError, OutputError):
        raise
    except (DeltaError, OSError, ValueError) as exc:
        text = f"{url}: the Delta log cannot be read or written ({_why(exc)})"
        raise (PermissionError if isinstance(exc, PermissionError) else OSError)(text) from None


def pointer_in(table: DeltaTable, url: str) -> Pointer | None:
    """What the last commit of kvspark up to the version of `table` said; None if none of those in the log is ours.

    Raises:
        OutputError: it is damaged.
    """
    last = table.transaction_version(KEY)
    if last is None:
        return None
    for commit in table.history(table.version() - last + 1):
        if commit["version"] == last and KEY in commit:
            return Pointer.from_bytes(json.dumps(commit[KEY]).encode(), url=url)
    return None


def _why(exc: Exception) -> str:
    line = str(exc).partition("\n")[0]
    # Between the two is the request, with its whole URL.
    before, _, after = line.partition(": Error performing")
    return (after.rpartition(" - ")[2] or before)[:200] or "no reason given"
