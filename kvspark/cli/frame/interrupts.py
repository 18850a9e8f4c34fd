"""The handler of signals while a command runs."""

from __future__ import annotations

import os
import signal
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, final

from kvspark.spark.session.halt import halt_spark
from kvspark.spark.session.interrupt import SIGNALS, Interrupted

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

_AGAIN_S = 0.05


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP end Spark and raise `Interrupted` in the main thread, once.

    After that they are ignored, in what follows too: a second Ctrl-C must not end the cleaning up. A
    SIGHUP that was ignored before (nohup) still is.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = _Handler()
    hook, before = sys.unraisablehook, {number: signal.getsignal(number) for number in SIGNALS}
    if before[signal.SIGHUP] is signal.SIG_IGN:
        del before[signal.SIGHUP]
    for number in before:
        signal.signal(number, handler)
    sys.unraisablehook = handler.was_lost
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, how in before.items():
            ended = handler.has_raised
            signal.signal(number, signal.SIG_IGN if ended else how or signal.SIG_DFL)


def ignore_signals() -> None:
    """From now on no signal of ours ends anything: the process is about to."""
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)


@final
class _Handler:
    """Raises for the first signal, and for a later one if the first was lost."""

    def __init__(self) -> None:
        self._raised: weakref.ref[Interrupted] | None = None
        self._hook = sys.unraisablehook

    @property
    def has_raised(self) -> bool:
        """True if a signal has arrived, and was not lost."""
        return self._raised is not None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        # Alive: it is on its way up, and what it passes cleans up. Dead: somebody has swallowed it.
        if self._raised is not None and self._raised() is not None:
            return
        error = Interrupted(number)
        self._raised = weakref.ref(error)
        try:
            halt_spark(frame)
            raise error
        finally:
            del error, frame  # with it, the frame would keep it alive

    def was_lost(self, lost: UnraisableHookArgs) -> None:
        """Python calls this for what is raised where nobody can catch it, as in a finalizer of py4j."""
        if not isinstance(lost.exc_value, Interrupted):
            self._hook(lost)
            return
        number = lost.exc_value.exit_code - 128
        self._raised = None
        again = threading.Timer(_AGAIN_S, os.kill, (os.getpid(), number))
        again.daemon = True
        again.start()
