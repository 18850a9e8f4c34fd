"""One run at a time on a table of a POSIX file system: flock(2), of which the kernel lets go when the process dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import final

from kvspark.errors import OutputError
from kvspark.table.publish.dead_run import DeadRun
from kvspark.table.publish.files.lock_note import NOTE_BYTES, holder_in, locked, note_of


@final
class FileLock:
    """Holds the table `url` for one run by the file `path`, which stays; `with` lets go of it."""

    def __init__(self, path: Path, *, url: str, run_id: str) -> None:
        self._path = path
        self._url = url
        self._run_id = run_id
        self._fd = -1

    def __enter__(self) -> DeadRun | None:
        """The run that died with the lock, once it is taken, for which nobody waits.

        Raises:
            RunLockedError: another run holds it; names that run and since when it runs.
            OutputError: the file cannot be made.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as exc:
            raise OutputError(
                f"output path {self._url}: {self._path} cannot be made ({exc.strerror}); nothing was written, choose "
                "another output path or change its permissions"
            ) from exc
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            note = os.pread(fd, NOTE_BYTES, 0)
            os.close(fd)
            raise locked(self._url, note) from None
        self._fd = fd
        dead = holder_in(os.pread(fd, NOTE_BYTES, 0))
        with contextlib.suppress(OSError):  # a full disk, on which a rollback needs no room
            os.truncate(fd, 0)
            os.pwrite(fd, note_of(self._run_id), 0)
        return dead

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # The file stays: who removes it must see to it that nobody waits for the removed one.
        with contextlib.suppress(OSError):
            os.truncate(self._fd, 0)
        os.close(self._fd)
        self._fd = -1
