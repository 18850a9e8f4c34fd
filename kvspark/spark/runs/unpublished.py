"""Runs that published nothing, one line each: `.kvspark-NAME/unpublished.jsonl` beside the output NAME.

Such a run changes nothing in the output: its files are listed, and what nobody listed is not ours. The
next run that publishes takes the lines into its history, and they are removed here.

Lines are added under a lock of the file alone, so that a run that may not start, because another one holds
the output, has its line too.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

FILE_NAME = "unpublished.jsonl"
_MOST_BYTES = 400 * 2000
"""A job that fails each minute must not fill a disk."""


def beside(output: Path) -> Path:
    """The folder beside `output` in which its runs keep what is not published."""
    return output.parent / f".kvspark-{output.name}"


def unpublished_lines(output: Path) -> list[str]:
    """The lines beside `output`; none where there are none that can be read."""
    try:
        return (beside(output) / FILE_NAME).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []


def add_unpublished(output: Path, line: str) -> None:
    """Adds a line beside `output`. Makes the folder, not the one that `output` lies in.

    Raises:
        OSError: the file system refused.
    """
    while True:
        with contextlib.suppress(FileExistsError):
            beside(output).mkdir(mode=0o700)
        # The last holder of the output may have removed folder or file between the two calls.
        with _locked(output, os.O_CREAT) as fd:
            if fd is None:
                continue
            size = os.fstat(fd).st_size
            if size > _MOST_BYTES:
                kept = os.pread(fd, size, size - _MOST_BYTES // 2).partition(b"\n")[2]
                os.truncate(fd, 0)
                os.write(fd, kept)
            os.write(fd, f"{line}\n".encode())
            return


def drop_unpublished(output: Path, is_taken: Callable[[str], bool]) -> None:
    """Removes the lines of which `is_taken` is true, because the history that was published has them.

    Raises:
        OSError: the file system refused.
    """
    with _locked(output, 0) as fd:
        if fd is None:
            return
        size = os.fstat(fd).st_size
        there = os.pread(fd, size, 0).decode("utf-8", "replace").splitlines()
        rest = [line for line in there if not is_taken(line)]
        if rest:
            os.truncate(fd, 0)
            os.write(fd, "".join(f"{line}\n" for line in rest).encode())
        else:
            (beside(output) / FILE_NAME).unlink()


@contextmanager
def _locked(output: Path, flags: int) -> Iterator[int | None]:
    """The file, locked; None if it is not there, or was removed before its lock was had."""
    path = beside(output) / FILE_NAME
    try:
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | flags, 0o600)
    except FileNotFoundError:
        yield None
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield fd if is_at(fd, path) else None
    finally:
        os.close(fd)


def is_at(fd: int, path: Path) -> bool:
    """True if the open file is the one at `path`, and not one that was removed since."""
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False
