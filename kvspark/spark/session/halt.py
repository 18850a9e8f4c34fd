"""Ending Spark before its time, so that nothing of it writes or speaks any more."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from types import FrameType
from typing import Any

_GRACE_S = 15.0
_EXIT_S = 10.0


def halt_spark(frame: FrameType | None = None) -> None:
    """Ends Spark's jobs, Spark, and its JVM where this process has started it; does nothing without.

    `frame` is where a signal has interrupted the main thread.

    To be called before anybody asks Spark for something else: the main thread's connection is in the
    midst of a call that was interrupted, and the next one on it would wait for that. What cannot be ended
    within half a minute is killed. Afterwards no task writes to the disk, and calls to Spark fail at once.
    """
    # It may have been interrupted while it was imported: nothing is imported here.
    kind: Any = getattr(sys.modules.get("pyspark"), "SparkContext", None)
    if kind is None:
        return
    active = kind._active_spark_context  # noqa: SLF001 - asked for in public, it would be started
    _silence(getattr(active, "_accumulatorServer", None))
    context = getattr(active, "_jsc", None)
    if context is not None:
        # A thread has a connection of its own. Python's own stop() takes a lock that may be held here.
        stopping = threading.Thread(target=_stop, args=(context,), daemon=True)
        stopping.start()
        stopping.join(_GRACE_S)
    process = getattr(kind._gateway, "proc", None)  # noqa: SLF001
    if process is not None:
        _end(process)
    starting = _starting(frame)
    if starting is not None:  # it would go on, and complain of what pyspark has taken away
        with suppress(ProcessLookupError):
            os.kill(starting, signal.SIGKILL)


def _starting(frame: FrameType | None) -> int | None:
    """The process of the JVM that pyspark starts in `frame`, if it does; nobody else knows of it yet."""
    opening: Any = None
    while frame is not None and frame.f_code.co_name != "launch_gateway":
        here = frame.f_locals.get("self")
        opening = here if isinstance(here, subprocess.Popen) else opening
        frame = frame.f_back
    found = None if frame is None else frame.f_locals.get("proc", opening)
    return getattr(found, "pid", None)


def _silence(accumulators: Any) -> None:
    """Threads that watch Spark are about to lose it, and nobody has to know."""
    if accumulators is not None:
        accumulators.handle_error = lambda *_: None
    logging.getLogger("py4j").setLevel(logging.CRITICAL + 1)
    # py4j also logs to the root itself.
    logging.getLogger().addFilter(lambda record: "py4j" not in record.pathname)
    threading.excepthook = lambda _: None


def _stop(context: Any) -> None:
    # Whatever is wrong with it, it is going to end.
    with suppress(Exception):
        context.sc().cancelAllJobs()
    with suppress(Exception):
        context.stop()


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(OSError):
        if process.stdin is not None:
            process.stdin.close()  # the JVM ends when its standard input does
    try:
        process.wait(_EXIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
