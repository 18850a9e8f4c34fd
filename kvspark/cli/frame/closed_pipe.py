"""Who reads standard output has gone, as `head` does: what is left to print is for nobody."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

EXIT_CODE = 141
"""128 + SIGPIPE, as a shell reports a program that this has ended."""


@contextmanager
def ignoring_a_closed_pipe() -> Iterator[None]:
    """What is printed inside is printed as far as somebody reads it; the command goes on."""
    try:
        yield
        sys.stdout.flush()
    except (OSError, SystemExit) as exc:
        if not is_closed_pipe(exc):
            raise
        silence()


def is_closed_pipe(error: BaseException, stdout: TextIO | None = None) -> bool:
    """True for what printing to a closed pipe raises, also once click or rich have made an exit of it.

    `stdout` is what standard output was before: click puts another in its place, and hides what it has caught.
    """
    if stdout is not None and sys.stdout is not stdout and isinstance(error, SystemExit):
        return True
    found = error.__context__ if isinstance(error, SystemExit) else error
    return isinstance(found, OSError) and found.errno == errno.EPIPE


def silence() -> None:
    """Gives what is still buffered to nobody: Python would complain of it at the end."""
    nobody = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nobody, sys.stdout.fileno())
    os.close(nobody)
