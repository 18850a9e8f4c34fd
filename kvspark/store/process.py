"""What a process has for itself: made anew after `fork`, and used by one thread at a time."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar, final

from kvspark.errors import StoreUnavailableError
from kvspark.store.deadline import Deadline

T = TypeVar("T")


@final
class PerProcess(Generic[T]):
    """One `T` a process, made by `make`; `place` names it in errors."""

    def __init__(self, make: Callable[[], T], place: object) -> None:
        self._make = make
        self._place = place
        self._start()

    @contextmanager
    def turn(self, deadline: Deadline) -> Iterator[T]:
        """This process's `T`, for this thread alone; it is waited for until `deadline`.

        Raises:
            StoreUnavailableError: another thread had it all the time.
        """
        if self._pid != os.getpid():
            # A forked child: the parent goes on with what it has, and a thread of it may have held
            # the lock. Dropping a copied connection closes our end and tells the server nothing.
            self._start()
        lock = self._lock
        if not lock.acquire(timeout=min(deadline.left_s(), threading.TIMEOUT_MAX)):
            raise StoreUnavailableError(
                f"{self._place} was busy with another thread's call until this one ran out of time"
            ) from TimeoutError()
        try:
            yield self._own
        finally:
            lock.release()

    def _start(self) -> None:
        self._own = self._make()
        self._lock = threading.Lock()
        self._pid = os.getpid()


@final
class ProcessLock:
    """A lock that a forked child has for itself: a thread of the parent may have held it."""

    def __init__(self) -> None:
        self._start()

    def __enter__(self) -> None:
        if self._pid != os.getpid():
            # The child has one thread, the one that forked, and that one is not inside.
            self._start()
        self._lock.acquire()

    def __exit__(self, *exc: object) -> None:
        self._lock.release()

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._pid = os.getpid()
