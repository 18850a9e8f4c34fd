"""Files that all workers of a host share, named by the SHA-256 of what they hold.

    <temporary folder>/kvspark-<user id>/    0700, of this user
        lock                                 held while a file is written
        <sha256>                             0400, complete: it was renamed into its place

The worker that comes first writes a file, all of them map that one: N workers hold one copy of the
weights. A file that nobody has opened for a day is removed when another one is written; a worker
that still maps it keeps it.
"""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import final

from kvspark.errors import BundleError

_KEEP_S = 24 * 3600
_LOCK = "lock"


@final
class HostFiles:
    """The shared files of this user on this host."""

    def __init__(self, root: Path | None = None) -> None:
        """The files in the folder `root`, by default one in the system's temporary folder.

        Raises:
            BundleError: somebody else can write there.
        """
        self._root = root or Path(tempfile.gettempdir(), f"kvspark-{os.getuid()}")
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = self._root.lstat()
        is_private = stat.S_ISDIR(status.st_mode) and not status.st_mode & 0o077
        if not is_private or status.st_uid != os.getuid():
            raise BundleError(
                f"{self._root} is not a folder of this user alone, and weights would be read from "
                "it; remove it, or point TMPDIR to another place"
            )

    def path(self, digest: str, size_bytes: int, content: Callable[[], bytes]) -> Path:
        """The path of the file with SHA-256 `digest` (hex), which `content` gives if need be.

        Guarantees: the file is complete whenever it can be seen; two workers do not write it twice.

        Raises:
            BundleError: `content` has another SHA-256.
        """
        path = self._root / digest
        if not _is_there(path, size_bytes):
            with self._locked():
                if not _is_there(path, size_bytes):
                    self._write(path, content())
                    self._prune()
        return path

    def _write(self, path: Path, content: bytes) -> None:
        if sha256(content).hexdigest() != path.name:
            raise BundleError(
                f"a file of the model arrived with other bytes than its manifest says "
                f"(sha256 {path.name[:12]}...); save the model again"
            )
        staged = path.with_name(f".{path.name}.{os.getpid()}")
        fd = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o400)
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(fd)
        staged.rename(path)

    def _prune(self) -> None:
        # The clock of the file system, which the wall clock may not agree with.
        now = (self._root / _LOCK).stat().st_mtime
        for path in self._root.iterdir():
            with suppress(FileNotFoundError):
                if path.name != _LOCK and now - path.stat().st_mtime > _KEEP_S:
                    path.unlink()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fd = os.open(self._root / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            os.utime(fd)
            yield
        finally:
            os.close(fd)


def _is_there(path: Path, size_bytes: int) -> bool:
    """True if the file is there; marks it as used."""
    try:
        if path.stat().st_size != size_bytes:
            return False
        os.utime(path)
    except FileNotFoundError:
        return False
    return True
