"""Work for a thread that lives while there is some."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar, final

T = TypeVar("T")


@final
class WorkQueue(Generic[T]):
    """What `work` is to do in one process, piece by piece, in a thread called `name`.

    Whoever looks at it or adds to it holds `changed`, which is notified when a piece was done. `work`
    must not raise, and is called without the lock.
    """

    def __init__(self, work: Callable[[T], None], name: str) -> None:
        self._work = work
        self._name = name
        self._pid = os.getpid()
        self._thread: threading.Thread | None = None
        self.changed = threading.Condition()
        self.waiting: deque[T] = deque()
        self.at_work: T | None = None

    @property
    def is_own(self) -> bool:
        """False in a forked child: the thread is the parent's, which may have held the lock."""
        return self._pid == os.getpid()

    def add(self, piece: T) -> bool:
        """Puts `piece` at the end; False if there is no thread to be had, and nothing was done."""
        self.waiting.append(piece)
        if self._thread is None:
            # A daemon: an interpreter that ends does not wait for a store that hangs.
            thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the system has none to give, or the interpreter ends
                self.waiting.pop()
                return False
            self._thread = thread
        return True

    def _serve(self) -> None:
        while True:
            with self.changed:
                self.at_work = None
                self.changed.notify_all()
                if not self.waiting:
                    self._thread = None
                    return
                piece = self.at_work = self.waiting.popleft()
            self._work(piece)
