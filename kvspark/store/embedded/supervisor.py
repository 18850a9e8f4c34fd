"""Starts a private redis-server, and ends it when its last user has gone.

This file is a program, given to `python -I -S -` on its standard input: it imports nothing of
kvspark, so that it stays small and outlives the process and the package that started it.

    python -I -S - kvspark-embedded FOLDER SERVER SOCKET

It exits at once; a copy of it goes on, in a session of its own, until the server has ended. Until then
its standard output stays open, which tells whoever started it that the server has not ended.

Every process that uses the server holds a shared `flock` on `users.lock`, and takes it under
`start.lock`. The kernel lets go of them when the process ends, however it ends. Who has the exclusive
lock on both knows that nobody is left and that nobody can arrive.
"""

# pathlib would be a third of the time that this program takes to start.
# ruff: noqa: PTH106, PTH108, PTH116, PTH118, PTH120

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time

STEP_S = 0.05

LINGER_S = 0.2
"""Who closes a store and opens it again should find the server still there; a start takes 0.1 s."""

SAVE_S = 120.0
"""A server that has not saved by then will not: the disk is full or gone."""

_PR_SET_PDEATHSIG = 1


def main(folder: str, binary: str, socket_path: str) -> None:
    """Runs the server of `folder` until nobody uses it."""
    if os.fork():
        return
    os.setsid()
    os.umask(0o077)
    os.chdir(folder)
    locks = [os.open(name, os.O_RDWR | os.O_CREAT, 0o600) for name in ("start.lock", "users.lock")]
    with subprocess.Popen(  # noqa: S603 - the server that our parent found
        [binary, "redis.conf"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        preexec_fn=_end_with_parent,  # noqa: PLW1509 - we have one thread
    ) as server:
        _wait_for_users(server, locks)
        if server.poll() is None:
            _end(server, is_saved=_is_at(os.path.join(folder, "start.lock"), locks[0]))
    if os.path.dirname(socket_path) != folder:
        os.unlink(socket_path)
        os.rmdir(os.path.dirname(socket_path))


def _end_with_parent() -> None:
    """Has the kernel tell the server to save and end if this program is killed."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def _wait_for_users(server: subprocess.Popen[bytes], locks: list[int]) -> None:
    """Returns, with all locks, when nobody uses the server; or when it has ended by itself."""
    was_used = time.monotonic()
    while server.poll() is None:
        time.sleep(STEP_S)
        is_free = _takes(locks)
        if not is_free:
            was_used = time.monotonic()
        elif time.monotonic() - was_used > LINGER_S:
            return
        for lock in locks:
            fcntl.flock(lock, fcntl.LOCK_UN)


def _takes(locks: list[int]) -> bool:
    try:
        for lock in locks:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _end(server: subprocess.Popen[bytes], *, is_saved: bool) -> None:
    os.kill(server.pid, signal.SIGCONT)
    # Where somebody removed the folder there is no place to save to, and nobody who would read.
    os.kill(server.pid, signal.SIGTERM if is_saved else signal.SIGKILL)
    try:
        server.wait(SAVE_S)
    except subprocess.TimeoutExpired:
        server.kill()


def _is_at(path: str, held: int) -> bool:
    """True if `held` is still the file at `path`."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(held))
    except FileNotFoundError:
        return False


if __name__ == "__main__":
    main(*sys.argv[2:])
