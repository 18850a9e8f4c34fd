"""One version of a Delta table, by delta-rs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, final
from urllib.parse import unquote

from kvspark.errors import KvsparkError, UsageError
from kvspark.table.delta.columns import TableColumns
from kvspark.table.publish.pointer import Pointer

if TYPE_CHECKING:
    from deltalake import DeltaTable

KEY = "kvspark"
"""Of a commit's information that is ours; and the application whose last transaction says which commit that is."""


_PAINT = re.compile("\x1b\\[[0-9;]*m")
_ADDRESS = re.compile(r"\b[a-z0-9]+://\S+")
_STATUS = re.compile(r"\b([45]\d\d [A-Z][A-Za-z ]+)$", re.MULTILINE)
_REFUSED = re.compile(r"\b40[13] [A-Z]")
_CODE = re.compile(r"<Code>(\w+)</Code>")


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
    """Turns what the client raises inside into an OSError of one line, a PermissionError where credentials are refused."""
    try:
        from deltalake.exceptions import DeltaError
    except ImportError:
        raise UsageError(
            f"{url}: tables of Delta Lake need a client, which is not installed; pip install 'kvspark[delta]'"
        ) from None
    try:
        yield
    except KvsparkError:
        raise
    except (DeltaError, OSError, ValueError) as exc:
        text = f"{url}: the Delta log cannot be read or written ({_why(str(exc))})"
        refused = _REFUSED.search(str(exc))
        raise (PermissionError if refused else OSError)(text) from None


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


def location_of(path: str, url: str) -> str:
    """Where the file is that the log calls `path`, whose signs are those of a URL."""
    plain = unquote(path)
    if plain.startswith("file:"):
        return "/" + plain.removeprefix("file:").lstrip("/")
    if "://" in plain or plain.startswith("/"):
        return plain
    return f"{url.rstrip('/')}/{plain}"


def _why(text: str) -> str:
    """What the client says, in one line and without addresses: those of requests may be signed."""
    found = filter(None, (_STATUS.search(text), _CODE.search(text)))
    lines = [line.strip(" ↳\t") for line in _PAINT.sub("", text).splitlines()]
    first, *others = [_ADDRESS.sub("...", line) for line in lines if line] or ["no reason given"]
    said = [match.group(1).strip() for match in found] or others[-1:]
    return ", ".join([first, *said])[:300]
