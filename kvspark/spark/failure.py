"""What Spark's exceptions mean to the person who started a run.

An error that a worker raised arrives as text inside Spark's own exception, behind a traceback; here
it becomes what it was.
"""

from __future__ import annotations

import re

from kvspark import errors
from kvspark.errors import DataError, KvsparkError, OutputError

_OURS = re.compile(r"^kvspark\.errors\.(\w+): (.+)$", re.MULTILINE)
_FILE = re.compile(r"file:(/\S+?\.parquet)")
_FULL = re.compile(r"No space left on device|Disk quota exceeded")
_UNREADABLE = re.compile(
    r"FAILED_READ_FILE|checksum|ParquetDecodingException|is not a Parquet file"
)
_DIED = re.compile(r"Python worker exited unexpectedly \(crashed\)")


def explained(exc: Exception) -> KvsparkError | None:
    """The error of ours that `exc` stands for, None if it stands for none."""
    text = str(exc)
    for name, message in reversed(_OURS.findall(text)):
        kind = getattr(errors, name, None)
        if isinstance(kind, type) and issubclass(kind, KvsparkError):
            return kind(message)
    if found := _FULL.search(text):
        return OutputError(
            f"{found.group().lower()} while the output was staged; nothing was published, make "
            "room or choose another output path"
        )
    if _UNREADABLE.search(text):
        file = _FILE.search(text)
        where = file.group(1) if file else "an input file"
        return DataError(
            f"{where} cannot be read to its end (a damaged page, or it changed); nothing was "
            "published, write it again"
        )
    if _DIED.search(text):
        return KvsparkError(
            "a Python worker died in every attempt of a task (killed, out of memory, or a fault in "
            "native code); nothing was published, its stack is in Spark's executor log"
        )
    return None
