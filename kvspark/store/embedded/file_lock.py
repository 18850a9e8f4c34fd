"""Locks on files that tell processes of one machine who uses an embedded store."""

from __future__ import annotations

import fcntl
import os
import time
import weakref
from pathlib import Path
from typing import final

from kvspark.errors import StoreUnavailableError


@final
class FileLock:
    """A `flock` on the file at `path`, until `close` or the end of this process, however it ends.

    A forked child does not inherit it, so that a child that never uses a server, and perhaps never
    ends, does not keep it alive.

    Raises:
        StoreUnavailableError: another process held it until `ends`, monotonic.
    """

    def __init__(self, path: Path, *, is_shared: bool, ends: float) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        _HELD.add(self)
        while not self._takes(fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX):
            if time.monotonic() > ends:
                self.close()
                raise StoreUnavailableError(f"another process holds {path} for too long")
            time.sleep(0.01)

    def close(self) -> None:
        """Lets go of it; in a forked child the parent keeps it. May be called twice."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            # Closing, not unlocking: the lock is shared with the process that forked.
            os.close(fd)

    def _takes(self, kind: int) -> bool:
        try:
            fcntl.flock(self._fd, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def __del__(self) -> None:
        self.close()


_HELD: weakref.WeakSet[FileLock] = weakref.WeakSet()


def _close_all() -> None:
    for lock in list(_HELD):
        lock.close()


os.register_at_fork(after_in_child=_close_all)
