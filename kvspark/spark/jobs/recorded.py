"""The lines of runs that published nothing: who looks at the history in the morning sees why."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import final

from kvspark.config.job import JobConfig
from kvspark.errors import KvsparkError, OutputError, UsageError
from kvspark.spark.output.job_target import target_of
from kvspark.spark.publishing.folder_target import FolderTarget
from kvspark.spark.publishing.open_publisher import publisher_of
from kvspark.spark.publishing.publisher_target import PublisherTarget
from kvspark.spark.publishing.run_target import RunTarget
from kvspark.spark.runs.history import PastRun
from kvspark.spark.runs.phases import Phases
from kvspark.spark.session.interrupt import Interrupted, interrupt_in

log = logging.getLogger(__name__)

_UNEXPECTED = "KVS-1999"
_MOST_S = 10.0
"""How long the end of a run waits for its line to be kept."""
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
            self._keep(lambda: _own_target(self._config), exc)
            raise

    @contextmanager
    def under_lock(self, target: RunTarget) -> Iterator[None]:
        """As `before_lock`, unless the run has published."""
        try:
            yield
        except BaseException as exc:
            if not target.is_published:
                self._keep(lambda: target, exc)
            raise
        # Lines that are there twice are one for who reads them.
        _in_time(target.drop_kept, f"lines of the history stay beside {target.url}", logging.DEBUG)

    def _keep(self, opened: Callable[[], RunTarget], error: BaseException) -> None:
        run = self._run(error)
        lacks = f"the history of {self._config.output.path} lacks this run"
        _in_time(lambda: opened().keep(run), lacks, logging.WARNING)

    def _run(self, error: BaseException) -> PastRun:
        interrupted = interrupt_in(error)
        is_ended = interrupted is not None or isinstance(error, KeyboardInterrupt)
        return PastRun(
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


def _own_target(config: JobConfig) -> RunTarget:
    """The output of the job.

    Raises:
        UsageError, OutputError: there is none that is its own.
    """
    publisher = publisher_of(config)
    if publisher is None:
        return FolderTarget(target_of(config), config)
    publisher.check(config.run_id())
    return PublisherTarget(publisher, config)


def _in_time(call: Callable[[], None], what_if_not: str, level: int) -> None:
    """Calls `call`; says `what_if_not` where it cannot be done, or takes long: a run that ended waits for no history."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except (UsageError, OutputError):
            pass  # there is no output, it is another's, or the place does not answer
        except Exception as exc:  # noqa: BLE001 - clients raise what they like, and the run has ended
            failed.append(exc)

    thread = threading.Thread(target=run, name="kvspark-history", daemon=True)
    thread.start()
    thread.join(_MOST_S)
    if thread.is_alive() or failed:
        said = [getattr(each, "strerror", None) or type(each).__name__ for each in failed]
        log.log(level, "%s (%s)", what_if_not, said[0] if said else "it takes too long")


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
