"""Work of a library that knows no time-outs, in a thread that nobody has to wait for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar, final

from kvspark.store.deadline import NOW, Deadline

T = TypeVar("T")


@final
class Errand:
    """One piece of work at a time; one that hangs keeps others out and nobody in."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None

    def ask(self, work: Callable[[], T], deadline: Deadline) -> T:
        """What `work` returns, or raises.

        Raises:
            TimeoutError: it was not done in time, or an earlier one still is not.
        """
        done: list[T] = []
        failed: list[Exception] = []

        def run() -> None:
            try:
                done.append(work())
            except Exception as exc:  # noqa: BLE001 - It is raised where it is waited for.
                failed.append(exc)

        if not self.wait(deadline):
            raise TimeoutError("an earlier call has not ended")
        self._start(run)
        if not self.wait(deadline):
            raise TimeoutError("the time of this call has run out")
        if failed:
            raise failed[0]
        return done[0]

    def send(self, work: Callable[[], None]) -> bool:
        """Starts `work`, which must not raise; False if an earlier one has not ended."""
        if not self.wait(NOW):
            return False
        self._start(work)
        return True

    def wait(self, deadline: Deadline) -> bool:
        """True if nothing is at work at `deadline`, or before."""
        if self._thread is not None:
            self._thread.join(min(deadline.left_s(), threading.TIMEOUT_MAX))
            if self._thread.is_alive():
                return False
            self._thread = None
        return True

    def _start(self, work: Callable[[], None]) -> None:
        # A daemon: an interpreter that ends does not wait for a file system that hangs.
        self._thread = threading.Thread(target=work, name="kvspark-cold", daemon=True)
        self._thread.start()
