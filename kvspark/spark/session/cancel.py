"""Ctrl-C in a notebook or a script: Spark's jobs are ended, and then it is a KeyboardInterrupt."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import final

from pyspark import SparkContext

_AGAIN_S = 0.5
_PATIENT = 3
"""Interrupts after which nobody waits for Spark any more."""


@contextmanager
def cancelling() -> Iterator[None]:
    """SIGINT inside ends the jobs of Spark, and leaves as a KeyboardInterrupt that says what became of the run.

    pyspark's own handler asks Spark over the connection that it has interrupted, and both calls fail. Here the
    call that was interrupted ends by itself, because its job is cancelled over another connection.

    Only the main thread handles signals; elsewhere this does nothing. Afterwards SIGINT is handled as before.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before in {
        None,
        signal.SIG_IGN,
    }:
        yield
        return
    handler = _Handler()
    signal.signal(signal.SIGINT, handler)
    try:
        yield
    except Exception:  # of a cancelled job Spark and py4j say it in many ways
        if not handler.interrupts:
            raise
        raise KeyboardInterrupt("interrupted; nothing was published") from None
    finally:
        signal.signal(signal.SIGINT, before)
        handler.has_ended.set()
    if handler.interrupts:
        raise KeyboardInterrupt("interrupted after the new output was published")


@final
class _Handler:
    """Cancels jobs as long as the main thread waits for Spark."""

    def __init__(self) -> None:
        self.interrupts = 0
        self.has_ended = threading.Event()

    def __call__(self, number: int, frame: FrameType | None) -> None:
        del number
        self.interrupts += 1
        if self.interrupts >= _PATIENT or not _waits_for_spark(frame):
            raise KeyboardInterrupt("interrupted; nothing was published")
        if self.interrupts == 1:
            threading.Thread(target=self._cancel, daemon=True).start()

    def _cancel(self) -> None:
        """Again and again: the main thread may be between two jobs."""
        while not self.has_ended.wait(_AGAIN_S):
            context = SparkContext._active_spark_context  # noqa: SLF001 - asked for in public, it would be started
            # Spark may be about to end.
            with suppress(Exception):
                if context is not None:
                    context.cancelAllJobs()


def _waits_for_spark(frame: FrameType | None) -> bool:
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).startswith("py4j."):
            return True
        frame = frame.f_back
    return False
