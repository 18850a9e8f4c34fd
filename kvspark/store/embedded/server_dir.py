"""The folder of an embedded store: what is in it and how its server is configured.

    start.lock    held while a server is looked for or started; tells that the folder is ours
    users.lock    shared by the processes that use the server
    server.lock   held by the server and by its supervisor
    password      64 hexadecimal digits, made once
    redis.conf    written at each start
    redis.sock    the server's socket, where the path is short enough for one
    socket        where the socket is
    dump.rdb      the entries, written when the last user has gone and every ten minutes
    server.log    what the server said since it was started

The folder is closed to other users of the machine, and the password is on no command line.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import tempfile
from pathlib import Path
from typing import final

from kvspark.errors import UsageError
from kvspark.store.embedded.file_locks import is_held
from kvspark.store.endpoint import Endpoint

SOCKET_PATH_BYTES = 103
"""The longest path of a unix socket: 107 bytes on Linux, 103 on macOS."""

_LOG_LINE = re.compile(r"^\S+ .{20,30}? [*#.-] ")


@final
class ServerFolder:
    """The folder at `path`, an absolute one; it may not be there yet.

    Raises:
        UsageError: there is something else at `path`, or it belongs to another user.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.start_lock = path / "start.lock"
        self.users_lock = path / "users.lock"
        self._check()

    def __str__(self) -> str:
        return f"embedded:{self.path}"

    def make(self) -> None:
        """Makes the folder where it is missing, and closes it to other users.

        Raises:
            UsageError: as the constructor.
            OSError: it cannot be made.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._check()
        self.path.chmod(0o700)

    def is_running(self) -> bool:
        """True if a server of this folder, or its supervisor, is alive."""
        return is_held(self.path / "server.lock")

    def endpoint(self) -> Endpoint:
        """Where the server that was configured last listens.

        Raises:
            OSError: none was ever configured.
        """
        return Endpoint(
            socket_path=os.fsdecode((self.path / "socket").read_bytes()),
            password=(self.path / "password").read_bytes(),
        )

    def configure(self, max_bytes: int) -> str:
        """The path of the socket of a server that is about to be started."""
        password = self._password()
        socket_path = self._socket_path()
        _write(self.path / "socket", os.fsencode(socket_path))
        _write(self.path / "server.log", b"")
        lines = [
            "port 0",
            f"unixsocket {_quoted(socket_path)}",
            "unixsocketperm 600",
            f"requirepass {password}",
            "databases 1",
            f"dir {_quoted(self.path)}",
            "dbfilename dump.rdb",
            f"logfile {_quoted(self.path / 'server.log')}",
            # Also what makes the server save when it is told to end.
            "save 600 1",
            # It is a cache: a full disk is no reason to refuse writes.
            "stop-writes-on-bgsave-error no",
            "rdbcompression no",
            "appendonly no",
            f"maxmemory {max_bytes}",
            "maxmemory-policy allkeys-lfu",
            # In minutes. The default of 1 has forgotten every use by the next night.
            "lfu-decay-time 720",
            "daemonize no",
        ]
        _write(self.path / "redis.conf", "\n".join([*lines, ""]).encode())
        return socket_path

    def set_aside(self) -> Path | None:
        """Where the saved entries were moved to; None if there are none."""
        aside = self.path / "dump.rdb.unreadable"
        try:
            (self.path / "dump.rdb").replace(aside)
        except FileNotFoundError:
            return None
        return aside

    def put_back(self, aside: Path) -> None:
        """Undoes `set_aside`."""
        aside.replace(self.path / "dump.rdb")

    def last_words(self) -> str:
        """The end of the server's log: what was wrong, and that it gives up."""
        try:
            lines = (self.path / "server.log").read_text(errors="replace").splitlines()
        except OSError:
            return "nothing was said"
        # After the process, the date and a sign for the level.
        return " ".join(_LOG_LINE.sub("", line) for line in lines[-2:])

    def _check(self) -> None:
        try:
            names = {each.name for each in self.path.iterdir()}
            owner = self.path.stat().st_uid
        except FileNotFoundError:
            return
        except OSError as exc:
            raise UsageError(f"{self} is not a folder that can be used: {exc.strerror}") from None
        if owner != os.geteuid():
            raise UsageError(f"{self} belongs to another user; name a folder of your own")
        if names and self.start_lock.name not in names:
            raise UsageError(
                f"{self} holds other files; name a folder that is new or empty, for it to be closed "
                "to other users and kept by kvspark"
            )

    def _password(self) -> str:
        path = self.path / "password"
        with contextlib.suppress(FileNotFoundError):
            password = path.read_text()
            if password:
                return password
        password = secrets.token_hex(32)
        _write(path, password.encode())
        return password

    def _socket_path(self) -> str:
        path = self.path / "redis.sock"
        if len(os.fsencode(path)) <= SOCKET_PATH_BYTES:
            return str(path)
        # In a folder of its own that only we may enter; the supervisor removes it.
        for parent in (None, "/tmp"):  # noqa: S108 - mkdtemp below makes it safe
            folder = Path(tempfile.mkdtemp(prefix="kvspark-", dir=parent))
            if len(os.fsencode(folder / "redis.sock")) <= SOCKET_PATH_BYTES:
                break
            folder.rmdir()
        return str(folder / "redis.sock")


def _write(path: Path, content: bytes) -> None:
    # Closed to others before it has content, whatever the umask is.
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_bytes(content)


def _quoted(path: str | Path) -> str:
    """A path as redis.conf reads it, whatever bytes it has."""
    plain = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-"
    return '"' + "".join(chr(b) if b in plain else f"\\x{b:02x}" for b in os.fsencode(path)) + '"'
