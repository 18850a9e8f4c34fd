"""Locks on files that tell processes of one machine who uses an embedded store.

They are `flock`s: the kernel lets go of them when the last holder ends, however it ends.
"""

from __future__ import annotations

import fcntl
import os
import time
import weakref
from pathlib import Path
from typing import final

from typing_extensions import Self

from kvspark.errors import StoreUnavailableError


def open_lock(path: Path) -> int:
    """A descriptor of the lock file at `path`, made where it is missing; `exec` closes it."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def is_held(path: Path) -> bool:
    """True if some process holds the exclusive lock on `path`."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        # Shared, so that two that look at the same time do not see each other.
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


@final
class Exclusive:
    """Holds the exclusive lock on `path` within a `with`; waits for it until `ends`, monotonic.

    Raises:
        StoreUnavailableError: somebody else held it until then.
    """

    def __init__(self, path: Path, ends: float) -> None:
        self._path = path
        self._ends = ends
        self._fd = -1

    def __enter__(self) -> Self:
        self._fd = open_lock(self._path)
        while not _takes(self._fd):
            if time.monotonic() > self._ends:
                os.close(self._fd)
                raise StoreUnavailableError(f"another process holds {self._path} for too long")
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def _takes(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@final
class Presence:
    """This process's mark that it uses a server: a shared lock, until `leave` or its end.

    A forked child does not inherit it, so that a child that never uses the server, and perhaps
    never ends, does not keep it alive.
    """

    def __init__(self, path: Path) -> None:
        self._fd: int | None = open_lock(path)
        fcntl.flock(self._fd, fcntl.LOCK_SH)
        _PRESENT.add(self)

    def leave(self) -> None:
        """Takes the mark away; in a forked child the parent's stays."""
        fd, self._fd = self._fd, None
        if fd is not None:
            # Closing, not unlocking: the lock is shared with the process that forked.
            os.close(fd)

    def __del__(self) -> None:
        self.leave()


_PRESENT: weakref.WeakSet[Presence] = weakref.WeakSet()


def _leave_all() -> None:
    for presence in list(_PRESENT):
        presence.leave()


os.register_at_fork(after_in_child=_leave_all)
