"""The report and the history of what a publisher has published, brought to this machine."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from kvspark.spark.runs.history import FILE_NAME as HISTORY_NAME
from kvspark.spark.runs.run_report import FILE_NAME as REPORT_NAME
from kvspark.spark.runs.run_report import REPORT_FOLDER
from kvspark.spark.runs.unpublished import add_unpublished
from kvspark.table.publish.publisher import Publisher

log = logging.getLogger(__name__)

NOTES = (f"{REPORT_FOLDER}/{REPORT_NAME}", f"{REPORT_FOLDER}/{HISTORY_NAME}")
"""Their paths in an output."""


@contextmanager
def brought_notes(publisher: Publisher) -> Iterator[Path]:
    """A folder in which they lie as in an output on this machine; it is removed at the end.

    Raises:
        OutputError: the target does not answer.
    """
    scratch = Path(tempfile.mkdtemp(prefix="kvspark-notes-"))
    try:
        folder = scratch / "output"
        (folder / REPORT_FOLDER).mkdir(parents=True)
        current = publisher.current()
        if current is not None:
            for path in NOTES:
                data = publisher.note(current, path)
                if data is not None:
                    (folder / path).write_bytes(data)
        for line in _unpublished(publisher):
            add_unpublished(folder, line)
        yield folder
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _unpublished(publisher: Publisher) -> Sequence[str]:
    try:
        kept = publisher.unpublished()
        return [] if kept is None else kept.lines()
    except OSError as exc:  # a history is worth no failure
        log.debug("the lines of runs that published nothing are not known (%s)", exc)
        return []
