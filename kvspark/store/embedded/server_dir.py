"""The folder of an embedded store: what is in it and how its server is configured.

    start.lock    held while a server is looked for, started or ended; tells that the folder is ours
    users.lock    shared by the processes that use the server
    password      64 hexadecimal digits, made once
    redis.conf    written at each start
    redis.sock    the server's socket
    socket        where it is reached: there, or where that path is too long, over a link
    dump.rdb      the entries, written when the last user has gone and every ten minutes
    server.log    what the server and its supervisor said since they were started

The folder is closed to other users of the machine, and the password is on no command line.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
import tempfile
from pathlib import Path
from typing import final

from kvspark.errors import UsageError
from kvspark.store.endpoint import Endpoint

SOCKET_PATH_BYTES = 103
"""The longest path of a unix socket: 107 bytes on Linux, 103 on macOS."""

_LOG_LINE = re.compile(r"^\S+ .{20,30}? [*#.-] ")

# The server runs in the folder. `save` is also what makes it save when it is told to end. It is a cache:
# a full disk is no reason to refuse writes. With the default of one minute for the decay, every use was
# forgotten by the next night.
_CONF = """\
port 0
unixsocket redis.sock
unixsocketperm 600
requirepass {password}
databases 1
dbfilename dump.rdb
logfile server.log
save 600 1
stop-writes-on-bgsave-error no
rdbcompression no
appendonly no
maxmemory {max_bytes}
maxmemory-policy allkeys-lfu
lfu-decay-time 720
daemonize no
"""


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
        self.log = path / "server.log"
        self._dump = path / "dump.rdb"
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

    def listens(self) -> bool:
        """True if a server of this folder takes connections, whether it answers or hangs."""
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(0)
            try:
                path = self.endpoint().socket_path
                link.connect(path)
                # The link to a socket may be gone, and somebody else have one of that name.
                return Path(path).parent.stat().st_uid == os.geteuid()
            except BlockingIOError:
                return True
            except OSError:
                return False

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
        password = self.path / "password"
        if not password.exists() or not password.stat().st_size:
            _write(password, secrets.token_hex(32).encode())
        reached_at = self._socket_path()
        _write(self.path / "socket", os.fsencode(reached_at))
        _write(self.log, b"")
        conf = _CONF.format(password=password.read_text(), max_bytes=max_bytes)
        _write(self.path / "redis.conf", conf.encode())
        return reached_at

    def set_aside(self) -> Path | None:
        """Where the saved entries were moved to; None if there are none."""
        return self._dump.replace(f"{self._dump}.unreadable") if self._dump.exists() else None

    def put_back(self, aside: Path) -> None:
        """Undoes `set_aside`."""
        aside.replace(self._dump)

    def last_words(self) -> str:
        """The end of the server's log: what was wrong, and that it gives up."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()
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

    def _socket_path(self) -> str:
        path = self.path / "redis.sock"
        if len(os.fsencode(path)) <= SOCKET_PATH_BYTES:
            return str(path)
        # A link in a folder of its own that only we may enter; the supervisor removes both.
        for parent in (None, "/tmp"):  # noqa: S108 - mkdtemp below makes it safe
            link = Path(tempfile.mkdtemp(prefix="kvspark-", dir=parent)) / path.name
            if len(os.fsencode(link)) <= SOCKET_PATH_BYTES:
                break
            link.parent.rmdir()
        link.symlink_to(path)
        return str(link)


def _write(path: Path, content: bytes) -> None:
    # Closed to others before it has content.
    path.touch(mode=0o600)
    path.write_bytes(content)
