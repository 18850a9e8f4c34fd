"""Starts a private redis-server, stays until its last user has gone, then ends it.

This file is a program, given to `python -I -S -` on its standard input: it imports nothing of
kvspark, so that it stays small and outlives the process and the package that started it.

    python -I -S - kvspark-embedded FOLDER SERVER SOCKET

It exits with 0 once the server process exists; a copy of it goes on in a session of its own.

How it knows that nobody is left: every process that uses the server holds a shared `flock` on
`users.lock`. The kernel lets go of it when the process ends, however it ends. The supervisor asks
for the exclusive lock, which it gets when all are gone, and which costs nothing to wait for. It
then takes `start.lock`, under which alone a user may arrive, and looks again before it ends the
server. `server.lock` is held by the supervisor and by the server: it is free when both are gone.

If the supervisor is killed, the kernel sends SIGTERM to the server, which saves and ends.
"""

# pathlib would be a third of the time that this program takes to start.
# ruff: noqa: PTH106, PTH108, PTH116, PTH118, PTH120

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sys
import threading
import time

LINGER_S = 0.2
"""Who closes a store and opens it again should find the server still there; a start takes 0.05 s."""

SAVE_S = 120.0
"""A server that has not saved by then will not: the disk is full or gone."""

ALREADY_RUNS = 3
"""The exit code that says so."""

_PR_SET_PDEATHSIG = 1


def main(folder: str, server: str, socket_path: str) -> int:
    """0 once a supervisor runs in the background, or the exit code of why none does."""
    held = _open(folder, "server.lock")
    if not _takes(held):
        return ALREADY_RUNS
    if os.fork():
        return 0
    os.setsid()
    os.umask(0o077)
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    server_pid = _start([server, os.path.join(folder, "redis.conf")], held, null)
    # Whoever started us reads our output to its end, and so learns that the server exists.
    _to_null(null)
    threading.Thread(target=_end_with, args=(server_pid, folder, socket_path, held)).start()
    _wait_for_users(folder)
    with contextlib.suppress(ProcessLookupError):
        if not _is_at(folder, "server.lock", held):
            # Somebody removed the folder: there is no place to save to, and nobody who would read.
            os.kill(server_pid, signal.SIGKILL)
        os.kill(server_pid, signal.SIGCONT)
        os.kill(server_pid, signal.SIGTERM)
        time.sleep(SAVE_S)
        os.kill(server_pid, signal.SIGKILL)
    return 0


def _open(folder: str, name: str) -> int:
    return os.open(os.path.join(folder, name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _takes(fd: int) -> bool:
    # Somebody who only looks whether it is held holds it for a moment.
    for _ in range(50):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(0.01)
    return False


def _to_null(null: int) -> None:
    for stream in (0, 1, 2):
        os.dup2(null, stream)


def _start(command: list[str], held: int, null: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        _end_with_parent()
        _to_null(null)
        os.set_inheritable(held, True)  # noqa: FBT003 - it takes no name
        os.execv(command[0], command)  # noqa: S606 - no shell is what is wanted
    finally:
        os._exit(127)


def _end_with_parent() -> None:
    # Linux only. Elsewhere a supervisor that is killed leaves its server running.
    with contextlib.suppress(Exception):
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def _end_with(server_pid: int, folder: str, socket_path: str, held: int) -> None:
    os.waitpid(server_pid, 0)
    with contextlib.suppress(OSError):
        has_own_folder = os.path.dirname(socket_path) != folder
        if has_own_folder or _is_at(folder, "server.lock", held):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(socket_path)
        if has_own_folder:
            os.rmdir(os.path.dirname(socket_path))
    # Users may be left: the next call of one of them starts another server and supervisor.
    os._exit(0)


def _wait_for_users(folder: str) -> None:
    """Returns when there is no user and, because `start.lock` is held, none can arrive."""
    users, start = _open(folder, "users.lock"), _open(folder, "start.lock")
    while True:
        fcntl.flock(users, fcntl.LOCK_EX)
        fcntl.flock(users, fcntl.LOCK_UN)
        time.sleep(LINGER_S)
        fcntl.flock(start, fcntl.LOCK_EX)
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            fcntl.flock(start, fcntl.LOCK_UN)
        else:
            return


def _is_at(folder: str, name: str, held: int) -> bool:
    """True if `held` is still the file of that name."""
    try:
        return os.path.samestat(os.stat(os.path.join(folder, name)), os.fstat(held))
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(main(*sys.argv[2:]))
