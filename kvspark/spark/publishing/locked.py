"""A target that one run holds; whoever takes the lock from a dead run tells of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from kvspark.errors import OutputError
from kvspark.spark.output.run_lock import ROLLBACK
from kvspark.spark.publishing.brought_notes import brought_notes
from kvspark.spark.runs.history import line_of, past_of
from kvspark.table.publish.dead_run import DeadRun
from kvspark.table.publish.publisher import Publisher

log = logging.getLogger(__name__)


@contextmanager
def locked(publisher: Publisher, run_id: str) -> Iterator[None]:
    """Holds the target for run `run_id`. A run that died with the lock has its line in the history first.

    Raises:
        RunLockedError: another run holds it.
        OutputError: the target does not answer.
    """
    with publisher.lock(run_id) as dead:
        if dead is not None and dead.run_id != ROLLBACK:
            try:
                _tell(publisher, dead)
            except (OSError, OutputError) as exc:  # a history is worth no failure
                log.warning("the history of %s lacks run %s (%s)", publisher.url, dead.run_id, exc)
        yield


def _tell(publisher: Publisher, dead: DeadRun) -> None:
    kept = publisher.unpublished()
    if kept is None or publisher.current() is None:
        return
    with brought_notes(publisher) as notes:
        run = past_of(dead, notes)
    if run is not None:
        kept.add(line_of(run))
