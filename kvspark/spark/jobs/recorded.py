"""The lines of runs that published nothing: who looks at the history in the morning sees why."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import final

from kvspark.config.job import JobConfig
from kvspark.errors import KvsparkError, OutputError, UsageError
from kvspark.spark.output.job_target import target_of
from kvspark.spark.publishing.open_publisher import publisher_of
from kvspark.spark.publishing.run_target import RunTarget
from kvspark.spark.runs.history import PastRun, add_run, drop_taken
from kvspark.spark.runs.phases import Phases
from kvspark.spark.session.interrupt import Interrupted, interrupt_in

log = logging.getLogger(__name__)

_UNEXPECTED = "KVS-1999"
_LONGEST = 600
"""Characters of a message: a line of a history is read as a whole."""


@final
class Record:
    """What one run leaves in the history of its output when it publishes nothing."""

    def __init__(self, config: JobConfig, phases: Phases) -> None:
        self._config = config
        self._phases = phases
        self._started_at = datetime.now(timezone.utc).isoformat(timespec="milliseconds")

    @contextmanager
    def before_lock(self) -> Iterator[None]:
        """A failure inside has a line where the output is there and is the job's own."""
        try:
            yield
        except BaseException as exc:
            with contextlib.suppress(UsageError, OutputError):  # it is not: nothing is written
                if publisher_of(self._config) is None:
                    self._add(target_of(self._config).path, exc)
            raise

    @contextmanager
    def under_lock(self, target: RunTarget) -> Iterator[None]:
        """As `before_lock`, unless the run has published."""
        try:
            yield
        except BaseException as exc:
            if not target.is_published and target.lines is not None:
                self._add(target.lines, exc)
            raise
        if target.lines is None:
            return
        try:
            drop_taken(target.lines)
        except OSError as exc:  # lines that are there twice are one for who reads them
            log.debug("lines of the history stay beside %s (%s)", target.url, exc)

    def _add(self, output: Path, error: BaseException) -> None:
        if not output.exists():
            return
        interrupted = interrupt_in(error)
        is_ended = interrupted is not None or isinstance(error, KeyboardInterrupt)
        run = PastRun(
            run_id=self._config.run_id(),
            started_at=self._started_at,
            name=self._config.run.name,
            logical_date=self._config.run.logical_date,
            total_seconds=round(sum(self._phases.seconds.values()), 3),
            state="interrupted" if is_ended else "failed",
            exit_code=_exit_code(interrupted or error),
            code=None if is_ended else _code(error),
            phase=self._phases.current,
            message=_message(interrupted or error),
        )
        try:
            add_run(output, run)
        except OSError as exc:
            log.warning("the history of %s lacks this run (%s)", output, exc.strerror)


def _exit_code(error: BaseException) -> int:
    if isinstance(error, KvsparkError | Interrupted):
        return error.exit_code
    return 130 if isinstance(error, KeyboardInterrupt) else KvsparkError.exit_code


def _code(error: BaseException) -> str:
    return error.code if isinstance(error, KvsparkError) else _UNEXPECTED


def _message(error: BaseException) -> str:
    """What the run ended with. Of a foreign error its class alone: its text may hold a row."""
    if isinstance(error, KvsparkError):
        text = " ".join(str(error).split())
    elif isinstance(error, Interrupted):
        text = error.told or "interrupted; nothing was published"
    elif isinstance(error, KeyboardInterrupt):
        text = str(error) or "interrupted; nothing was published"
    else:
        text = type(error).__name__
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
