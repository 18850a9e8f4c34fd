"""Files that all workers of a host share, named by the SHA-256 of what they hold.

    <temporary folder>/kvspark-<user id>/    0700, of this user
        lock                                 held while a file is written
        <sha256>                             0400, complete: it was renamed into its place
        <digest>.checked                     says that a file's bytes were checked (kvspark.spark.weights.hash_markers)

The worker that comes first writes a file, all of them map that one: N workers hold one copy of the
weights. When a file is written, those that nobody asked for within a day are removed, and then the
least recently used ones until the rest fits; a worker that still maps one keeps it. Where nothing can be written (a
full disk, a quota), a worker keeps the content in memory of its own: the job goes on, with a copy for each worker.
"""

from __future__ import annotations

import fcntl
import logging
import os
import stat
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, final

from typing_extensions import Buffer

from kvspark.errors import BundleError
from kvspark.spark.weights.hash_markers import MARKER, Verified

MOST_BYTES = 32 << 30
"""What the files of a host may take: a few large models, and a part of any disk that has them."""

_KEEP_S = 24 * 3600
_IN_USE_S = 600
"""A file that was asked for within this time may not be open yet."""

_LOCK = "lock"

_LOG = logging.getLogger(__name__)


@final
class HostFiles:
    """The shared files of this user on this host."""

    def __init__(self, root: Path | None = None, *, most_bytes: int = MOST_BYTES) -> None:
        """The files in the folder `root`, by default one in the system's temporary folder.

        Raises:
            BundleError: somebody else can write there, or it cannot be made.
        """
        self._root = root or Path(tempfile.gettempdir(), f"kvspark-{os.getuid()}")
        self._most_bytes = most_bytes
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = self._root.lstat()
        except OSError as error:
            raise BundleError(
                f"{self._root}, where the workers of a host share the weights, cannot be made: "
                f"{error.strerror}; point TMPDIR to a place that can be written"
            ) from error
        is_private = stat.S_ISDIR(status.st_mode) and not status.st_mode & 0o077
        if not is_private or status.st_uid != os.getuid():
            raise BundleError(
                f"{self._root} is not a folder of this user alone, and weights would be read from "
                "it; remove it, or point TMPDIR to another place"
            )
        self._verified = Verified(self._root)
        self._in_memory: dict[str, BinaryIO] = {}

    @property
    def root(self) -> Path:
        """The folder that they are in."""
        return self._root

    def path(self, digest: str, size_bytes: int, content: Callable[[], Buffer]) -> Path:
        """The path of the file with SHA-256 `digest` (hex), which `content` gives if need be.

        Guarantees: the file is complete whenever it can be seen; two workers do not write it twice.
        It was checked when it was written, and is again if it has changed since.

        Raises:
            BundleError: `content` has another SHA-256.
        """
        if digest in self._in_memory:
            return _path_of(self._in_memory[digest])
        path = self._root / digest
        if self._is_good(path, digest, size_bytes):
            return path
        with self._locked():
            if self._is_good(path, digest, size_bytes):
                return path
            made = content()
            if sha256(made).hexdigest() != digest:
                raise BundleError(
                    f"a file of the model arrived with other bytes than its manifest says "
                    f"(sha256 {digest[:12]}...); save the model again"
                )
            try:
                self._write(path, made)
            except OSError as error:
                return self._keep_in_memory(digest, made, error)
            self._prune()
        return path

    def check(self, path: Path, digest: str) -> None:
        """Returns if the file at `path`, which is somebody else's, has SHA-256 `digest` (hex).

        Hashes it once a host, and again whenever it has changed.

        Raises:
            BundleError: it has another one, or cannot be read.
        """
        try:
            holds = self._verified.holds(path, digest)
        except OSError as error:
            raise BundleError(
                f"{path} cannot be read by a worker: {error.strerror}; it must be at the same path on "
                "every machine (model.weights: path), or let Spark ship it (model.weights: broadcast)"
            ) from error
        if not holds:
            raise BundleError(
                f"{path} has other bytes than the model's manifest says (sha256 {digest[:12]}...); "
                "save the model again, to a new folder while jobs read this one"
            )

    def _is_good(self, path: Path, digest: str, size_bytes: int) -> bool:
        try:
            if path.stat().st_size != size_bytes or not self._verified.holds(path, digest):
                return False
        except FileNotFoundError:
            return False
        # Nobody else can change it, so there is nothing to wait for; also says that it is used.
        self._verified.note(path, digest)
        return True

    def _write(self, path: Path, content: Buffer) -> None:
        staged = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            fd = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o400)
            with os.fdopen(fd, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(fd)
            staged.rename(path)
        finally:
            staged.unlink(missing_ok=True)
        self._verified.note(path, path.name)

    def _keep_in_memory(self, digest: str, content: Buffer, error: OSError) -> Path:
        told = (
            f"{self._root} takes no file of {len(memoryview(content))} bytes ({error.strerror}); make room, "
            "or point TMPDIR to another place"
        )
        if not hasattr(os, "memfd_create"):  # Linux only
            raise BundleError(told) from error
        try:
            file = os.fdopen(os.memfd_create(f"kvspark-{digest[:12]}"), "w+b")
            weakref.finalize(self, file.close)
            file.write(content)
            file.flush()
        except OSError as second:  # a limit on the size of files counts here too
            raise BundleError(told) from second
        _LOG.warning("%s: this worker keeps a copy of its own in memory", told)
        self._in_memory[digest] = file
        return _path_of(file)

    def _prune(self) -> None:
        # The clock of the file system, which the wall clock may not agree with.
        now_s = (self._root / _LOCK).stat().st_mtime
        left: list[tuple[float, int, Path]] = []
        # Before anything is removed: a file whose marker is gone looks as if it were used when it was written.
        for used_s, path in [*self._used()]:
            with suppress(FileNotFoundError):
                if path.name != _LOCK and now_s - used_s > _KEEP_S:
                    path.unlink()
                elif not _is_ours(path):
                    left.append((used_s, path.stat().st_size, path))
        size_bytes = sum(size for _, size, _ in left)
        for used_s, size, path in sorted(left):
            if size_bytes <= self._most_bytes or now_s - used_s <= _IN_USE_S:
                break
            path.unlink(missing_ok=True)
            size_bytes -= size

    def _used(self) -> Iterator[tuple[float, Path]]:
        for path in self._root.iterdir():
            with suppress(FileNotFoundError):
                yield path.stat().st_mtime if _is_ours(path) else self._verified.used_s(path), path

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            fd = os.open(self._root / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:  # then no file can be written either, and each worker is on its own
            yield
            return
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            os.utime(fd)
            yield
        finally:
            os.close(fd)


def _is_ours(path: Path) -> bool:
    """True for what is not a file of a model: the lock, markers, files that are being written."""
    return path.name == _LOCK or path.name.endswith(MARKER) or path.name.startswith(".")


def _path_of(file: BinaryIO) -> Path:
    return Path(f"/proc/self/fd/{file.fileno()}")
