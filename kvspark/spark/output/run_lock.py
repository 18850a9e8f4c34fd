"""One run at a time for each target.

The lock is an flock(2) on a file beside the target: the kernel lets go of it when the process
dies, however it dies, so that no lock is ever stale. The holder removes the file before it lets
go; whoever got a lock on a file that has been removed meanwhile tries again. A note in a file that
nobody holds is that of a run that died: the history gets its line.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import final

from kvspark.errors import OutputError
from kvspark.spark.runs.history import add_dead
from kvspark.spark.runs.unpublished import is_at
from kvspark.table.publish.files.lock_note import NOTE_BYTES, holder_in, locked, note_of

LOCK_NAME = "lock"
ROLLBACK = "rollback"
"""The holder that is no run."""


@final
class RunLock:
    """Holds `folder` for one run; `with` lets go of it and of an empty folder."""

    def __init__(self, folder: Path, *, target: Path, run_id: str) -> None:
        self._folder = folder
        self._path = folder / LOCK_NAME
        self._target = target
        self._run_id = run_id
        self._fd = -1

    def __enter__(self) -> None:
        """Takes the lock without waiting.

        Raises:
            RunLockedError: another run holds it; names that run and since when it runs.
            OutputError: the folder cannot be made or written.
        """
        while self._fd < 0:
            try:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:  # the last holder removed the folder between the two calls
                continue
            except OSError as exc:
                raise OutputError(
                    f"output path {self._target}: {self._folder.parent} cannot be written "
                    f"({exc.strerror}); choose another output path or change its permissions"
                ) from exc
            self._try(fd)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty: the next run cleans it when it starts
            self._folder.rmdir()
        os.close(self._fd)
        self._fd = -1

    def _try(self, fd: int) -> None:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            note = os.pread(fd, NOTE_BYTES, 0)
            os.close(fd)
            raise locked(self._target, note) from None
        if not is_at(fd, self._path):
            os.close(fd)
            return
        dead = holder_in(os.pread(fd, NOTE_BYTES, 0))
        os.truncate(fd, 0)
        with contextlib.suppress(OSError):  # a full disk, on which a rollback needs no room
            os.pwrite(fd, note_of(self._run_id), 0)
        self._fd = fd
        if dead is not None and dead.run_id != ROLLBACK:
            with contextlib.suppress(OSError):  # a history is worth no failure
                add_dead(self._target, dead)
